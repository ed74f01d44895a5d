"""Many runs at once: find them, examine each in a guarded process, keep, group and compare them."""
