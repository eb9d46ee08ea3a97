"""The gradients by hand against torch's own, and updates that touch nothing else."""

import numpy as np
import pytest
import torch
from scipy.sparse import csr_array

from bespoke.models.base import Interactions
from bespoke.models.two_tower_config import TwoTowerConfig
from bespoke.models.two_tower_examples import Batch, Examples
from bespoke.models.two_tower_tables import Sizes, at_random
from bespoke.models.two_tower_trainer import Trainer
from bespoke.vocabulary import Vocabulary

PEOPLE, ITEMS, BUCKETS = 12, 20, 6
FULL = TwoTowerConfig(
    factors=5, targets=2, bfloat16=False, person_id_dropout=0, item_id_dropout=0, history_dropout=0, temperature=0.3
)
SAMPLED = FULL.model_copy(update={"full_softmax_items": 0, "negatives": 4})


def examples_of(config: TwoTowerConfig) -> Examples:
    rows = np.unique(np.random.default_rng(3).integers(0, (PEOPLE, ITEMS), (70, 2)), axis=0)
    users, items = [f"u{user:02d}" for user, _ in rows], [f"i{item:02d}" for _, item in rows]
    times, weights = np.arange(len(rows)), np.linspace(0.5, 2, len(rows))
    interactions = Interactions.from_columns(users, items, times, weights)
    item_I = np.array([int(id[1:]) for id in interactions.items.ids], dtype=np.int32)
    return Examples.of(interactions, item_I, items=ITEMS, at_ms=1000, config=config)


def trainer_of(config: TwoTowerConfig) -> Trainer:
    random = np.random.default_rng(4)
    users, items = Vocabulary(f"u{n}" for n in range(PEOPLE)), Vocabulary(f"i{n}" for n in range(ITEMS))
    tables = at_random(Sizes(users, items, BUCKETS, config.factors), seed=1)  # type: ignore[arg-type]
    filled = {name: table + random.normal(0, 0.3, table.shape).astype(np.float32) for name, table in tables.items()}
    marks_IF = csr_array((random.random((ITEMS, BUCKETS)) < 0.4).astype(np.float32))
    return Trainer(filled, marks_IF, config=config)


def batch_of(examples: Examples, size: int = 8) -> Batch:
    return next(examples.epoch(seed=0, epoch=1).batches(*examples.table(), size=size))


def loss_by_definition(trainer: Trainer, batch: Batch, config: TwoTowerConfig) -> torch.Tensor:
    """State the loss as the top of the trainer's file does, target by target."""
    tables = trainer.tables
    raw_ID = tables["item_ids"] + torch.tensor(trainer._content.toarray()) @ tables["content"]
    share_BI = torch.tensor(batch.lines.matrix(items=ITEMS, half_life_days=config.half_life_days).toarray())
    about_BP = torch.tensor(batch.lines.about(half_life_days=config.half_life_days))
    person_BD = share_BI @ raw_ID @ tables["history_map"] + about_BP @ tables["about_map"]
    person_BD = person_BD + tables["person_ids"][torch.tensor(batch.person_B.astype(np.int64))]
    cosine_BI = torch.nn.functional.normalize(person_BD) @ torch.nn.functional.normalize(raw_ID).T
    total = torch.zeros(())
    for row, target, weight in zip(batch.target_B_K, batch.target_item_K, batch.weight_K, strict=True):
        taken = set(batch.taken_item_M[batch.taken_B_M == row].tolist())
        hit = torch.exp(cosine_BI[row, int(target)] / config.temperature)
        others = [
            torch.exp(cosine_BI[row, int(item)] / config.temperature) / float(np.exp(log_share))
            for item, log_share in zip(batch.candidate_C, batch.log_share_C, strict=True)
            if int(item) not in taken
        ]
        total = total - float(weight) * torch.log(hit / (hit + sum(others)))
    return total / float(batch.weight_K.sum())


@pytest.mark.parametrize("config", [FULL, SAMPLED], ids=["full", "sampled"])
def test_loss_and_gradients_are_those_of_the_definition(config: TwoTowerConfig) -> None:
    trainer, batch = trainer_of(config), batch_of(examples_of(config))
    gradients = trainer.gradients(batch)
    for table in trainer.tables.values():
        table.requires_grad_()
    loss = loss_by_definition(trainer, batch, config)
    loss.backward()  # type: ignore[no-untyped-call]
    assert gradients.loss == pytest.approx(loss.item(), rel=1e-4)
    for name, table in trainer.tables.items():
        given = gradients.of[name]
        whole_RD = torch.zeros_like(table)
        whole_RD[slice(None) if given.row_R is None else given.row_R] = given.value_RD
        assert table.grad is not None
        np.testing.assert_allclose(whole_RD.detach(), table.grad, atol=2e-5, err_msg=name)


def test_a_step_changes_only_the_rows_that_it_touches() -> None:
    trainer, batch = trainer_of(SAMPLED), batch_of(examples_of(SAMPLED), size=2)
    before = trainer.arrays()
    trainer.step(batch, rate=0.1)
    after = trainer.arrays()
    changed = {name: set(np.flatnonzero((before[name] != after[name]).any(axis=1)).tolist()) for name in before}
    assert changed["person_ids"] == set(batch.person_B[np.unique(batch.target_B_K)].tolist())
    assert changed["item_ids"] == set(batch.candidate_C.tolist()) | set(batch.lines.item_L.tolist())


def test_steps_lower_the_loss() -> None:
    config = FULL.model_copy(update={"learning_rate": 0.03})
    trainer, batch = trainer_of(config), batch_of(examples_of(config))
    losses = [trainer.step(batch, rate=0.03) for _ in range(50)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_trainer_goes_on_from_a_state_as_if_it_had_never_stopped() -> None:
    one, other = trainer_of(FULL), trainer_of(FULL)
    batch = batch_of(examples_of(FULL))
    one.step(batch, rate=0.1)
    other.load_state({name: tensor.clone() for name, tensor in one.state().items()})
    for trainer in (one, other):
        trainer.step(batch, rate=0.1)
    for name, table in one.arrays().items():
        np.testing.assert_array_equal(table, other.arrays()[name])


def test_half_precision_comes_close() -> None:
    batch = batch_of(examples_of(FULL))
    exact = trainer_of(FULL).gradients(batch)
    half = trainer_of(FULL.model_copy(update={"bfloat16": True})).gradients(batch)
    assert half.loss == pytest.approx(exact.loss, rel=0.02)
    for name, gradient in exact.of.items():
        np.testing.assert_allclose(half.of[name].value_RD, gradient.value_RD, atol=0.02, err_msg=name)
