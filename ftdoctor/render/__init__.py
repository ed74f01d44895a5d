"""From a Diagnosis to what people see; each renderer is a pure function of the diagnosis."""
