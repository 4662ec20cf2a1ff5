"""The Lightning module: loss, optimiser, schedule and validation of the network."""

from dataclasses import asdict, dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torchmetrics import Metric

from grapheme_to_phoneme.errors import UserError
from grapheme_to_phoneme.training.alphabets import Alphabets
from grapheme_to_phoneme.training.data_module import Batch
from grapheme_to_phoneme.training.metrics import References, Score
from grapheme_to_phoneme.training.network import Network, NetworkDimensions
from grapheme_to_phoneme.training.objective import Objective, cross_entropy, mean_inside
from grapheme_to_phoneme.training.recording import Recorder, can_replay

#: More steps than any training takes: seeds of different runs do not meet.
STEPS_PER_SEED = 10**9


@dataclass(frozen=True)
class OptimizerSettings:
    """How the weights are learnt.

    Attributes:
        learning_rate: the peak of the schedule.
        final_share: the last learning rate, as a share of the peak.
        warmup_steps: steps of linear increase to the peak.
        weight_decay: decoupled decay of the weight matrices (Loshchilov and Hutter, 2019).
        betas: AdamW's decay rates of the first and second moment.
        label_smoothing: probability spread over all chunks in the training target.
        consistency: weight of the divergence between two passes with different dropout
            (Liang et al., 2021, "R-Drop: Regularized Dropout for Neural Networks"); 0 passes
            once, in half the time.
        most_warmup: the largest share of all steps that the warm-up takes in short trainings.
    """

    learning_rate: float
    final_share: float
    warmup_steps: int
    weight_decay: float
    betas: tuple[float, float]
    label_smoothing: float
    consistency: float = 0.0
    most_warmup: float = 0.25

    def __post_init__(self) -> None:
        """Refuse what PyTorch would refuse later, or learn nothing with."""
        if not self.learning_rate > 0.0:
            raise ValueError(f"learning_rate is above 0, not {self.learning_rate}")
        for name in ("final_share", "warmup_steps", "weight_decay", "consistency"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is at least 0, not {getattr(self, name)}")
        if not 0.0 <= self.most_warmup <= 1.0:
            raise ValueError(f"most_warmup is from 0 to 1, not {self.most_warmup}")
        if not 0.0 <= self.label_smoothing < 1.0:
            raise ValueError(f"label_smoothing is from 0 to below 1, not {self.label_smoothing}")
        if len(self.betas) != 2 or not all(0.0 <= beta < 1.0 for beta in self.betas):
            raise ValueError(f"betas are two numbers from 0 to below 1, not {self.betas}")


class ErrorRate(Metric):
    """Errors over units in percent, summed over all processes: WER or PER.

    See :class:`~grapheme_to_phoneme.training.metrics.Score` for what counts as an error.
    """

    higher_is_better = False
    full_state_update = False
    errors: Tensor
    units: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("errors", torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("units", torch.tensor(0), dist_reduce_fx="sum")

    def update(self, errors: int, units: int) -> None:
        """Add counts."""
        self.errors += errors
        self.units += units

    def compute(self) -> Tensor:
        """Return the rate in percent; 0 where there are no units."""
        return 100.0 * self.errors / self.units.clamp(min=1)


class PronunciationModule(pl.LightningModule):
    """Trains a :class:`Network` and measures it on the validation words.

    The checkpoint holds plain values alone, dimensions and alphabets included, so one file
    rebuilds the model and loads without running code from it.

    Args:
        dimensions: :meth:`NetworkDimensions.to_dict`'s values.
        alphabets: :meth:`Alphabets.to_dict`'s values.
        optimizer: :class:`OptimizerSettings` as a dictionary.
        seed: seeds dropout, anew in every step, so that a resumed run repeats it.
        facts: what the model file will say about the lexicon and the run, as plain values.

    Attributes:
        replay: whether to record the steps and replay them, where that is possible.
    """

    def __init__(
        self,
        dimensions: dict,
        alphabets: dict[str, list],
        optimizer: dict,
        seed: int,
        facts: dict,
    ) -> None:
        super().__init__()
        # The alphabets are no hyperparameters to compare runs by.
        self.save_hyperparameters(logger=False)
        self.network = Network(NetworkDimensions.from_dict(dimensions))
        self.alphabets = Alphabets.from_dict(alphabets)
        self.settings = OptimizerSettings(**optimizer)
        self.facts = facts
        self.flops_per_batch = 0
        self.replay = False
        self._recorder: Recorder | None = None
        self._seed = seed
        self._dev_spellings: list[str] = []
        self._dev_references: References = {}
        self._word_errors = ErrorRate()
        self._phone_errors = ErrorRate()

    @classmethod
    def create(
        cls,
        dimensions: NetworkDimensions,
        alphabets: Alphabets,
        settings: OptimizerSettings,
        seed: int,
        facts: dict,
    ) -> "PronunciationModule":
        """Build a new module; the arguments become the checkpoint's plain values."""
        return cls(dimensions.to_dict(), alphabets.to_dict(), asdict(settings), seed, facts)

    def set_references(self, spellings: list[str], references: References) -> None:
        """Give the validation words, in the order of the data module's indices."""
        self._dev_spellings = spellings
        self._dev_references = references

    @property
    def objective(self) -> Objective:
        """What a training step minimises."""
        return Objective(self.network, self.settings.label_smoothing, self.settings.consistency)

    def on_train_start(self) -> None:
        """Begin to record the steps, where that is wished and possible."""
        if self.replay and can_replay(self.trainer, bool(self.network.memories)):
            self._recorder = Recorder(self.objective, self.trainer.precision == "bf16-mixed")

    def on_train_end(self) -> None:
        """Give the memory of the recorded steps back."""
        self._recorder = None

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Seed dropout by the step, so that a resumed run draws what an unbroken one would."""
        if self._recorder is not None:
            self._recorder.prepare(batch)
        torch.manual_seed(self._seed * STEPS_PER_SEED + self.global_step)

    def training_step(self, batch: Batch, batch_index: int) -> Tensor:
        """Return :class:`Objective`'s loss of a batch, in nats per letter."""
        letters = batch["letters"]
        objective = self.objective
        # Two operations a weight and letter forward, four backward: for the throughput monitor.
        operations = 6 * self.network.weights_per_letter() * objective.passes
        self.flops_per_batch = operations * letters.numel()
        loss = objective(batch) if self._recorder is None else self._recorder.replay(batch)
        # The next replay of a recorded step overwrites its result.
        self.log("train/loss", loss.detach().clone(), prog_bar=True, batch_size=len(letters))
        return loss

    def validation_step(self, batch: Batch, batch_index: int, dataloader_idx: int = 0) -> None:
        """Count the errors of greedy search; or, for aligned words, log the loss."""
        # In full precision, as the exported model calculates, whatever the training does.
        with torch.autocast(self.device.type, enabled=False):
            self._validate(batch)

    def _validate(self, batch: Batch) -> None:
        if "chunks" in batch:
            logits = self.network(batch["letters"], batch["chunks"])
            self.log(
                "validation/loss",
                mean_inside(cross_entropy(logits, batch["chunks"]), batch["letters"]),
                batch_size=len(batch["letters"]),
                add_dataloader_idx=False,
                sync_dist=True,
            )
            return
        paths, _ = self.network.search(batch["letters"])
        score = Score()
        for index, path in zip(batch["index"].tolist(), paths[:, 0].tolist(), strict=True):
            spelling = self._dev_spellings[index]
            score.add(spelling, self.alphabets.phones_of(path), self._dev_references[spelling])
        self._word_errors.update(score.wrong_words, score.words)
        self._phone_errors.update(score.phone_errors, score.reference_phones)
        for name, metric in (("wer", self._word_errors), ("per", self._phone_errors)):
            self.log(
                f"validation/{name}",
                metric,
                prog_bar=True,
                on_step=False,
                on_epoch=True,
                add_dataloader_idx=False,
            )

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients, by their common norm or each value.

        Lightning refuses to with a fused optimiser in mixed precision, for the sake of the
        gradients that float16 scales; bfloat16 scales none.
        """
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            torch.nn.utils.clip_grad_value_(self.parameters(), gradient_clip_val)
        else:
            torch.nn.utils.clip_grad_norm_(self.parameters(), gradient_clip_val)

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Return AdamW with a linear warm-up and a cosine decay, advanced every step."""
        settings = self.settings
        matrices, others = [], []
        for name, parameter in self.network.named_parameters():
            embeds = any(part in name for part in ("letters.weight", "chunks.weight"))
            (matrices if parameter.ndim >= 2 and not embeds else others).append(parameter)
        optimizer = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": settings.weight_decay},
                {"params": others, "weight_decay": 0.0},
            ],
            lr=settings.learning_rate,
            betas=settings.betas,
            # One pass over the weights instead of a dozen.
            # Gradients that float16 scales must be unscaled first, outside the optimiser.
            fused=self.trainer.precision != "16-mixed",
        )
        steps = max(1, int(self.trainer.estimated_stepping_batches))
        warmup = max(1, min(settings.warmup_steps, int(settings.most_warmup * steps)))
        schedule = torch.optim.lr_scheduler.SequentialLR(
            optimizer,
            [
                torch.optim.lr_scheduler.LinearLR(
                    optimizer, start_factor=1.0 / warmup, total_iters=warmup
                ),
                torch.optim.lr_scheduler.CosineAnnealingLR(
                    optimizer,
                    T_max=max(1, steps - warmup),
                    eta_min=settings.learning_rate * settings.final_share,
                ),
            ],
            milestones=[warmup],
        )
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step", "name": "learning_rate"},
        }


def load_checkpoint(checkpoint: Path) -> PronunciationModule:
    """Load a checkpoint on the CPU, without running code from it.

    Raises:
        UserError: if there is no checkpoint or it cannot be read.
    """
    if not checkpoint.is_file():
        raise UserError(f"there is no checkpoint {checkpoint}: train a model with `g2p train`")
    try:
        module = PronunciationModule.load_from_checkpoint(
            checkpoint, map_location="cpu", weights_only=True
        )
    # What unpickling a foreign file raises shares no base class but this.
    except Exception as error:
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(f"{checkpoint} is no checkpoint of this package: {reason}") from error
    return module.eval()
