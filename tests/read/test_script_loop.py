"""Hand-written training loops: each fault found, the sound loops beside it left alone."""

from __future__ import annotations

import textwrap

import pytest

from ftdoctor.read.code import parse
from ftdoctor.read.script import role_of
from ftdoctor.read.script_facts import facts_of

HEAD = """\
model = AutoModelForCausalLM.from_pretrained("m")
opt = torch.optim.AdamW(model.parameters(), lr=1e-4)
"""
SOUND = """\
for epoch in range(epochs):
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        opt.step()
        opt.zero_grad()
"""
EVALUATE = """\
def evaluate(net):
    net.eval()
    with torch.no_grad():
        return sum(net(**b).loss.item() for b in held_out)
"""


def faults(text: str) -> set[str]:
    code, _ = parse(text)
    assert code is not None
    found = facts_of(code, role_of(code, "train.py"))
    return {str(value) for name, value, _ in found if name.endswith(".loop_fault")}


TWIN = 'twin = AutoModelForCausalLM.from_pretrained("m")\n'


def changed(*pairs: tuple[str, str]) -> str:
    text = HEAD + SOUND
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


FAULTY = {
    "zero-grad-missing": [
        changed(("        opt.zero_grad()\n", "")),
        changed(("        opt.zero_grad()\n", ""), ("loss.backward()", "accelerator.backward(loss)")),
        changed(("        opt.zero_grad()\n", ""), ("opt.step()", "scaler.step(opt)")),
    ],
    "step-missing": [
        changed(("opt.step()", "sched.step()")),
        changed(("        opt.step()\n", "")),
    ],
    "backward-missing": [changed(("        loss.backward()\n", ""))],
    "cleared-before-step": [
        changed(("        opt.step()\n        opt.zero_grad()", "        opt.zero_grad()\n        opt.step()")),
        HEAD + "for b in loader:\n    loss = model(**b).loss\n    opt.zero_grad()\n    opt.step()\n"
        "    loss.backward()\n",
    ],
    "loss-cut-off": [
        changed(("loss.backward()", "loss = loss.detach().requires_grad_()\n        loss.backward()")),
        changed(("model(**batch).loss", "torch.tensor(model(**batch).loss.item(), requires_grad=True)")),
        changed(("loss.backward()", "total = loss.data / 4\n        total.requires_grad_(True).backward()")),
        changed((
            "        loss = model(**batch).loss\n",
            "        with torch.no_grad():\n            loss = model(**batch).loss\n",
        )),
    ],
    "optimizer-of-other-weights": [
        changed(("for epoch", "model = get_peft_model(model, config)\nfor epoch")),
        changed(("for epoch", "model = AutoModel.from_pretrained('m').to('cuda')\nfor epoch")),
        HEAD + "def train():\n" + "".join(f"    {x}\n" for x in SOUND.splitlines())
        + "model = load_model('m')\ntrain()\n",
    ],
    "optimizer-of-another-model": [
        changed(("(model.parameters()", "(twin.parameters()"), ("opt =", TWIN + "opt =")),
        changed(
            ("(model.parameters()", "([p for p in twin.parameters() if p.requires_grad]"),
            ("opt =", "twin = copy.deepcopy(model)\ntwin.to(dev)\nopt ="),
        ),
    ],
    "loss-of-logits": [
        changed(("model(**batch).loss", "model(**batch).logits.float().mean()")),
        changed(("        loss = model(**batch).loss", "        out = model(**batch)\n        loss = -out.logits.mean() / 4")),
        changed(("model(**batch).loss", "torch.mean(model(**batch).logits)")),
    ],
    "schedule-stepped-per-epoch": [
        changed(
            ("for epoch", "s = get_linear_schedule_with_warmup(opt, 100, len(loader) * epochs)\nfor epoch")
        ) + "    s.step()\n",
        changed(
            ("for epoch", "s = OneCycleLR(opt, 1e-3, epochs=3, steps_per_epoch=len(loader))\nfor epoch")
        ) + "    s.step()\n",
    ],
    "schedule-stepped-per-batch": [
        changed(
            ("for epoch", "s = CosineAnnealingLR(opt, T_max=epochs)\nfor epoch"),
            ("opt.step()", "opt.step(); s.step()"),
        ),
    ],
    "schedule-never-stepped": [
        changed(("for epoch", "s = CosineAnnealingLR(opt, T_max=9)\nfor epoch"))
        + "    print(s.get_last_lr(), epoch)\n",
        changed(("for epoch", "s = get_linear_schedule_with_warmup(opt, 0, 900)\nfor epoch")),
        HEAD + "a = LinearLR(opt)\nb = SequentialLR(opt, [a, StepLR(opt, 9)], [3])\n" + SOUND,
    ],
    "warm-up-never-stepped": [
        changed((
            "for epoch",
            "s = get_scheduler('linear', optimizer=opt, num_warmup_steps=int(total * 0.1))\n"
            "model, opt, s = accelerator.prepare(model, opt, s)\nfor epoch",
        )),
        "def make(model):\n    opt = AdamW(model.parameters())\n"
        "    s = get_cosine_schedule_with_warmup(opt, 10, 900)\n    return opt, s\n"
        + HEAD + "opt, rate = make(model)\n" + SOUND,
    ],
    "trains-in-eval-mode": [
        changed(("for epoch", "model.eval()\nfor epoch")),
        changed(("for epoch", "model.train(False)\nfor epoch")),
        changed(('("m")', '("m").to(dev).eval()')),
    ],
    "train-mode-not-restored": [
        changed(("for epoch", "model.train()\nfor epoch")) + "    model.eval()\n    check(loader)\n",
        EVALUATE + HEAD + SOUND + "    print(evaluate(model))\n",
        EVALUATE + changed((
            "        opt.zero_grad()\n",
            "        opt.zero_grad()\n        if step % 50 == 0:\n            evaluate(net=model)\n",
        )),
        "class Fit:\n    def __init__(self, model):\n        self.model = model\n"
        "        self.opt = AdamW(self.model.parameters())\n"
        "    def check(self):\n        self.model.eval()\n"
        "    def run(self):\n        self.model.train()\n        for batch in loader:\n"
        "            self.model(**batch).loss.backward()\n            self.opt.step()\n"
        "            self.opt.zero_grad()\n            self.check()\nFit(model).run()\n",
    ],
    "labels-shifted-twice": [
        changed(("**batch", "ids, labels=torch.roll(ids, -1, dims=1)")),
        changed(("**batch", "ids[:, :-1], labels=ids[:, 1:].contiguous()")),
        HEAD + "def make(r):\n    ids = tok(r)\n    return {'input_ids': ids[:-1], 'labels': ids[1:]}\n" + SOUND,
        changed((
            "        loss = model(**batch)",
            "        labels[:, :-1] = ids[:, 1:]\n        loss = model(input_ids=ids, labels=labels)",
        )),
    ],
    "labels-never-shifted": [
        changed(("model(**batch).loss", "F.cross_entropy(model(**batch).logits.view(-1, v), labels.view(-1))")),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("fault", "text"), [(f, t) for f, texts in FAULTY.items() for t in texts])
def test_each_fault_is_found_alone(fault: str, text: str) -> None:
    assert faults(text) == {fault}


SOUND_LOOPS = {
    "plain": HEAD + SOUND,
    "cleared first": HEAD + "for b in loader:\n    opt.zero_grad()\n    model(**b).loss.backward()\n"
    "    opt.step()\n",
    "distilled": changed(("opt =", TWIN + "opt ="), ("(**batch).loss", "(**batch).loss + gap(twin)")),
    "copied back": changed(("(model.parameters()", "(twin.parameters()"), ("opt =", TWIN + "opt ="))
    + "        model.load_state_dict(twin.state_dict())\n",
    "two parts": changed(("model.parameters()", "chain(model.parameters(), head.parameters())"))
    + "head = build_model(3)\n",
    "logits held small": changed(("(**batch).loss", "(**batch).loss + 0.01 * out.logits.mean()")),
    "accumulated": HEAD + "for i, b in enumerate(loader):\n    loss = model(**b).loss / 4\n"
    "    loss.backward()\n    if i % 4 == 3:\n        opt.step()\n        opt.zero_grad()\n"
    "    total += loss.item()\n",
    "by hand": HEAD + "for b in loader:\n    model(**b).loss.backward()\n"
    "    for p in model.parameters():\n        p.data -= 0.1 * p.grad\n        p.grad = None\n",
    "trainer's step": "class Mine(Trainer):\n    def training_step(self, model, inputs):\n"
    "        loss = self.compute_loss(model, inputs)\n        self.accelerator.backward(loss)\n"
    "        return loss.detach()\nmodel = AutoModel.from_pretrained('m')\n",
    "engine": "import deepspeed\n" + HEAD + "for b in loader:\n    loss = engine(b)\n"
    "    engine.backward(loss)\n    engine.step()\n",
    "handed on": HEAD + "def go(loss):\n    loss.backward()\nrun(model, opt, go)\n",
    "two players": HEAD + "other = Adam(critic.parameters())\nfor b in loader:\n"
    "    model(**b).loss.backward()\n    other.zero_grad()\n    opt.step()\n    opt.zero_grad()\n",
    "moved": changed(("for epoch", "model = model.to('cuda')\nmodel = torch.compile(model)\nfor epoch")),
    "tested afterwards": HEAD + SOUND + "model = AutoModelForCausalLM.from_pretrained('out')\n",
    "resumed": changed(("for epoch", "if resume:\n    model = AutoModel.from_pretrained(x)\nfor epoch")),
    "rebuilt": changed(
        ("for epoch", "model = get_peft_model(model, c)\nopt = AdamW(model.parameters())\nfor epoch")
    ),
    "advantage": changed(("model(**batch).loss", "-(logp * adv.detach()).mean()")),
    "epochs": changed(("for epoch", "s = CosineAnnealingLR(opt, T_max=epochs)\nfor epoch"))
    + "    s.step()\n",
    "schedule handed on": changed(("for epoch", "s = StepLR(opt, 9)\nwatch = Watch(s)\nfor epoch")),
    "schedule of another name": "def make(model):\n    opt = AdamW(model.parameters())\n"
    "    s = StepLR(opt, 9)\n    return opt, s\n" + HEAD + "opt, rate = make(model)\n" + SOUND
    + "    rate.step()\n",
    "schedules in one": changed((
        "for epoch", "a = LinearLR(opt)\nb = SequentialLR(opt, [a, StepLR(opt, 9)], [3])\nfor epoch"
    )) + "    b.step()\n",
    "schedule of noise": changed(("for epoch", "noise = DDPMScheduler(1000)\nfor epoch")),
    "rate by hand": changed(("for epoch", "s = StepLR(opt, 9)\nopt.param_groups[0]['lr'] = 3\nfor epoch")),
    "mode back in the epoch": EVALUATE + changed(("    for batch", "    model.train()\n    for batch"))
    + "    evaluate(model)\n",
    "mode back in the evaluation": EVALUATE.replace("        return sum", "        loss = sum")
    + "    net.train()\n    return loss\n" + HEAD + SOUND + "    evaluate(model)\n",
    "mode as it was": EVALUATE.replace("    net.eval()", "    was = net.training\n    net.eval()").replace(
        "        return sum", "        loss = sum") + "    net.train(was)\n    return loss\n"
    + HEAD + SOUND + "    evaluate(model)\n",
    "evaluated at the end": EVALUATE + HEAD + SOUND + "    if epoch == epochs - 1:\n"
    "        evaluate(model)\nevaluate(model)\n",
    "evaluated and stopped": EVALUATE + HEAD + "while True:\n    for batch in loader:\n"
    "        model(**batch).loss.backward()\n        opt.step()\n        opt.zero_grad()\n"
    "    if done():\n        evaluate(model)\n        break\n",
    "teacher": "teacher = AutoModel.from_pretrained('t').eval()\n" + HEAD + "teacher.eval()\n" + SOUND,
    "function called train": EVALUATE + HEAD + "def train(model):\n    model.train()\n    for b in loader:\n"
    "        model(**b).loss.backward()\n        opt.step()\n        opt.zero_grad()\n"
    "for epoch in range(3):\n    train(model)\n    evaluate(model)\n",
    "two players in turn": HEAD + "d = AdamW(judge.parameters())\nfor b in loader:\n    judge.eval()\n"
    "    model.train()\n    model(b).loss.backward()\n    opt.step()\n    opt.zero_grad()\n"
    "    d.zero_grad()\n",
    "evaluated elsewhere": changed(("for epoch", "model.eval()\nprepare_run(model)\nfor epoch")),
    "own shift": changed((
        "model(**batch).loss",
        "F.cross_entropy(model(ids).logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())",
    )),
    "own model": changed(("AutoModelForCausalLM.from_pretrained", "GPT"), ("**batch", "x, labels=ids[:, 1:]"))
    + "GPT2.from_pretrained('x')\n",
}  # fmt: skip


@pytest.mark.parametrize("case", SOUND_LOOPS)
def test_a_sound_loop_has_no_fault(case: str) -> None:
    assert faults(SOUND_LOOPS[case]) == set()


LIGHTNING = """\
class Net(pl.LightningModule):
    def training_step(self, batch, index):
        loss = self.model(**batch).loss
        self.log("loss", loss)
"""


def test_a_lightning_step_must_return_its_loss() -> None:
    assert faults(LIGHTNING) == {"training-step-returns-nothing"}
    assert faults(LIGHTNING + "        return loss\n") == set()
    assert faults(LIGHTNING + "        self.manual_backward(loss)\n") == set()
    assert faults(LIGHTNING.replace("pl.LightningModule", "nn.Module")) == set()


WALK = """
    rows = [encode(json.loads(line)) for line in open("mix.jsonl")]
    for epoch in range(3):
        {extra}
        for {loop}:
            loss = model(**pad({batch})).loss
            loss.backward()
            opt.step()
            opt.zero_grad()
"""


@pytest.mark.parametrize(
    ("loop", "batch", "extra", "expected"),
    [
        ("i in range(0, len(rows), 8)", "rows[i : i + 8]", "pass", ["for loop"]),
        ("row in rows", "row", "pass", ["for loop"]),
        ("i, row in enumerate(tqdm(rows))", "row", "pass", ["for loop"]),
        ("i in range(0, len(rows), 8)", "rows[i : i + 8]", "random.shuffle(rows)", []),
        ("i in range(100)", "random.sample(rows, 8)", "pass", []),
        ("batch in loader", "batch", "pass", []),
    ],
)
def test_a_loop_over_a_list_reads_it_in_order(
    loop: str, batch: str, extra: str, expected: list[str]
) -> None:
    code = textwrap.dedent(WALK.format(loop=loop, batch=batch, extra=extra))
    tree, _ = parse(code)
    assert tree is not None
    found = facts_of(tree, "train")
    assert [value for name, value, _ in found if name == "train.reads_in_order"] == expected
