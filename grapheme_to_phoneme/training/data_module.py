"""Batches of aligned words, of similar length, as a Lightning data module."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from grapheme_to_phoneme.training.alignment import AlignedEntry
from grapheme_to_phoneme.training.alphabets import PADDING_ID, START_ID, Alphabets
from grapheme_to_phoneme.training.lessons import SHARE_PARTS, Lessons
from grapheme_to_phoneme.training.memory import UNSEEN_ID, siblings_of
from grapheme_to_phoneme.training.recording import can_replay

Batch = dict[str, Tensor]


class RaggedRows:
    """Integer sequences of different lengths in one flat array."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.lengths = np.array([len(row) for row in rows], dtype=np.int64)
        self._starts = np.concatenate(([0], np.cumsum(self.lengths)))[:-1]
        self._values = np.fromiter((value for row in rows for value in row), dtype=np.int64)

    def places(self, indices: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
        """Return where the values of the rows at ``indices`` are, padded to the longest row.

        Returns:
            Places in the flat array, and whether there is a value at all, (rows, longest) both.
        """
        lengths = self.lengths[indices]
        columns = np.arange(lengths.max(initial=0))
        inside = columns < lengths[:, None]
        return np.where(inside, self._starts[indices][:, None] + columns, 0), inside

    def padded(self, indices: Sequence[int], padding: int) -> Tensor:
        """Return the rows at ``indices`` padded to the longest, (rows, longest)."""
        places, inside = self.places(indices)
        padded = np.full(inside.shape, padding, dtype=np.int64)
        padded[inside] = self._values[places[inside]]
        return torch.from_numpy(padded)


class AlignedDataset(Dataset):
    """Words with the chunk that each letter gives; fetched a batch at a time.

    Args:
        entries: the aligned words.
        alphabets: the ids of letters and chunks.
        is_remembered: whether the network's memory has seen them, and must leave them out.
    """

    def __init__(
        self, entries: Sequence[AlignedEntry], alphabets: Alphabets, is_remembered: bool
    ) -> None:
        self._letters = RaggedRows([alphabets.encode(entry.spelling) for entry in entries])
        self._chunks = RaggedRows(
            [[alphabets.chunk_ids[chunk] for chunk in entry.chunks] for entry in entries]
        )
        self.lengths = self._letters.lengths
        self._siblings = siblings_of(entries) if is_remembered else None

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return ``letters`` and ``chunks``, both (batch, letters) and 0 at padding.

        Remembered words come with ``own``, the chunks of all pronunciations of the same
        spelling, (batch, letters, pronunciations).
        """
        batch = {
            "letters": self._letters.padded(indices, PADDING_ID),
            "chunks": self._chunks.padded(indices, START_ID),
        }
        if self._siblings is not None:
            siblings = self._siblings[indices]
            most = 1 + (siblings != siblings[:, :1]).any(axis=0).sum()
            batch["own"] = torch.stack(
                [self._chunks.padded(column, START_ID) for column in siblings.T[:most]], dim=-1
            )
        return batch


class TaughtDataset(AlignedDataset):
    """The lexicon's words and those that teachers pronounced, with what the teachers think.

    Args:
        entries: the lexicon's aligned words.
        alphabets: the ids of letters and chunks.
        lessons: of these words.
        share: weight of the teachers' opinion on the lexicon's words; of the others it is all.
        is_remembered: whether the network's memory has seen the lexicon's words.
    """

    def __init__(
        self,
        entries: Sequence[AlignedEntry],
        alphabets: Alphabets,
        lessons: Lessons,
        share: float,
        is_remembered: bool,
    ) -> None:
        super().__init__([*entries, *lessons.imagined], alphabets, is_remembered)
        self._lessons = lessons
        self._trust = np.zeros(len(self), dtype=np.float32)
        self._trust[: len(entries)] = 1.0 - share
        self._is_imagined = np.arange(len(self)) >= len(entries)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return an :class:`AlignedDataset`'s batch with the teachers' opinion.

        It is ``opinion_chunks``, ``opinion_shares``, (batch, letters, kept chunks) both, and
        ``trust``, the weight of the given chunks against it, (batch,).
        """
        batch = super().__getitems__(indices)
        if "own" in batch:
            batch["own"][self._is_imagined[indices]] = UNSEEN_ID
        places, _ = self._letters.places(indices)
        shares = self._lessons.shares[places].astype(np.float32) / SHARE_PARTS
        batch["opinion_chunks"] = torch.from_numpy(self._lessons.chunks[places].astype(np.int64))
        batch["opinion_shares"] = torch.from_numpy(shares)
        batch["trust"] = torch.from_numpy(self._trust[indices])
        return batch


class SpellingDataset(Dataset):
    """Spellings alone, for validation: their pronunciations are looked up by ``index``."""

    def __init__(self, spellings: Sequence[str], alphabets: Alphabets) -> None:
        self._letters = RaggedRows([alphabets.encode(spelling) for spelling in spellings])
        self.lengths = self._letters.lengths

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitems__(self, indices: list[int]) -> Batch:
        """Return ``letters`` (batch, letters), 0 at padding, and ``index`` (batch,)."""
        return {
            "letters": self._letters.padded(indices, PADDING_ID),
            "index": torch.tensor(indices),
        }


def choose_repetitions(
    entries: Sequence[AlignedEntry], least_words: int, balance: float | None = None
) -> np.ndarray:
    """Return how often each entry comes in an epoch, so that few words make as many steps.

    Args:
        entries: the training entries.
        least_words: entries that an epoch has at least, nearly.
        balance: of several languages, whose spellings begin with their tags, 0 repeats nothing
            and 1 gives every language as many entries as the largest, so that small ones are
            not drowned; None for one language.
    """
    times = np.ones(len(entries), dtype=np.int64)
    if balance is not None:
        sizes = Counter(entry.spelling[0] for entry in entries)
        largest = max(sizes.values())
        wanted = {tag: max(1, round((largest / size) ** balance)) for tag, size in sizes.items()}
        times = np.array([wanted[entry.spelling[0]] for entry in entries])
    return times * max(1, round(least_words / times.sum()))


class ShuffledOrder(Sampler[int]):
    """A permutation that depends on the seed and the epoch alone, so that resuming repeats it.

    Lightning calls :meth:`set_epoch` before every epoch.
    """

    def __init__(self, size: int, seed: int) -> None:
        self._size = size
        self._seed = seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of ``epoch``."""
        self.epoch = epoch

    def generator(self) -> np.random.Generator:
        """Return the epoch's source of randomness."""
        return np.random.default_rng((self._seed, self.epoch))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[int]:
        return iter(self.generator().permutation(self._size).tolist())


class LengthBatchSampler(Sampler[list[int]]):
    """Batches of similar length under a budget of letters.

    With ``order`` the batches are drawn anew in every epoch; without, they are fixed and go
    from short words to long ones.

    Args:
        lengths: the length of every example, in letters.
        letters_per_batch: the budget; a longer example makes a batch of its own.
        order: the source of randomness, or None.
        repetitions: how often each example comes; once if None.
        rank: which share of the batches to give, with several processes.
        world_size: number of processes.
    """

    def __init__(
        self,
        lengths: np.ndarray,
        letters_per_batch: int,
        order: ShuffledOrder | None = None,
        repetitions: np.ndarray | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.sampler = order
        self._lengths = lengths
        self._letters_per_batch = letters_per_batch
        ones = np.ones(len(lengths), dtype=np.int64)
        self._examples = np.repeat(
            np.arange(len(lengths)), ones if repetitions is None else repetitions
        )
        self._rank = rank
        self._world_size = world_size
        self._drawn: tuple[int, list[list[int]]] | None = None

    def _batches(self) -> list[list[int]]:
        """Return the epoch's batches; Lightning asks for their number time and again."""
        epoch = 0 if self.sampler is None else self.sampler.epoch
        if self._drawn is None or self._drawn[0] != epoch:
            self._drawn = epoch, self._draw()
        return self._drawn[1]

    def _draw(self) -> list[list[int]]:
        if self.sampler is None:
            order = self._examples
            keys = self._lengths[order].astype(float)
        else:
            generator = self.sampler.generator()
            order = generator.permutation(self._examples)
            # Words of a length in any order. The permutation gives that already, but not the
            # batches that the published trainings have seen.
            keys = self._lengths[order] + generator.random(len(order))
        order = order[np.argsort(keys, kind="stable")]
        # Every process must get a batch, of a small lexicon too.
        most_words = max(1, len(order) // self._world_size)
        batches: list[list[int]] = []
        longest = 0
        for index, length in zip(order.tolist(), self._lengths[order].tolist(), strict=True):
            longest = max(longest, length)
            is_full = batches and longest * (len(batches[-1]) + 1) > self._letters_per_batch
            if not batches or is_full or len(batches[-1]) == most_words:
                batches.append([])
                longest = length
            batches[-1].append(index)
        if self.sampler is not None:
            batches = [batches[index] for index in generator.permutation(len(batches))]
        # Every process must take the same number of steps when training.
        if self.sampler is not None and self._world_size > 1:
            batches = batches[: len(batches) // self._world_size * self._world_size]
        return batches[self._rank :: self._world_size]

    def __len__(self) -> int:
        return len(self._batches())

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self._batches())


def identity(batch: Batch) -> Batch:
    """Collate nothing: the datasets give whole batches."""
    return batch


def filled(batch: Batch, letters_per_batch: int) -> Batch:
    """Fill a batch up with empty words, so that all batches of a length have one shape.

    Args:
        batch: of :class:`AlignedDataset` or :class:`TaughtDataset`.
        letters_per_batch: the budget of the batches.
    """
    words, length = batch["letters"].shape
    missing = max(0, letters_per_batch // length - words)
    return {
        name: torch.cat((part, part.new_zeros(missing, *part.shape[1:])))
        for name, part in batch.items()
    }


class LexiconDataModule(pl.LightningDataModule):
    """The training and validation batches of a lexicon.

    Args:
        aligned: the aligned training entries.
        dev_spellings: distinct spellings of the validation part, for the error rates.
        dev_aligned: its aligned entries, for the loss.
        alphabets: the model's alphabets.
        letters_per_batch: letters in a training batch.
        dev_letters_per_batch: letters in a validation batch.
        seed: seeds the order of the training batches.
        workers: processes that prepare batches; 0 prepares them in the training process.
        lessons: what teachers think of ``aligned`` and of further words, or None.
        teachers_share: see :class:`TaughtDataset`.
        repetitions: how often each training entry comes in an epoch; once if None.
        is_remembered: whether the network has a memory of the training entries.
        replay: whether to give batches of few shapes, where steps can be recorded.
    """

    def __init__(
        self,
        aligned: Sequence[AlignedEntry],
        dev_spellings: Sequence[str],
        dev_aligned: Sequence[AlignedEntry],
        alphabets: Alphabets,
        letters_per_batch: int,
        dev_letters_per_batch: int,
        seed: int,
        workers: int,
        lessons: Lessons | None = None,
        teachers_share: float = 0.0,
        repetitions: np.ndarray | None = None,
        is_remembered: bool = True,
        replay: bool = False,
    ) -> None:
        super().__init__()
        self._train = (
            AlignedDataset(aligned, alphabets, is_remembered)
            if lessons is None
            else TaughtDataset(aligned, alphabets, lessons, teachers_share, is_remembered)
        )
        self._dev: list[AlignedDataset | SpellingDataset] = [
            SpellingDataset(dev_spellings, alphabets)
        ]
        if dev_aligned:
            self._dev.append(AlignedDataset(dev_aligned, alphabets, is_remembered=False))
        self._letters_per_batch = letters_per_batch
        self._dev_letters_per_batch = dev_letters_per_batch
        self._seed = seed
        self._workers = workers
        self._repetitions = repetitions
        if repetitions is not None:
            # Words that were made up for the lessons come once.
            further = len(self._train) - len(repetitions)
            self._repetitions = np.pad(repetitions, (0, further), constant_values=1)
        self._is_remembered = is_remembered
        self._replay = replay
        self._first_epoch = 0

    def state_dict(self) -> dict[str, int]:
        """Return what a checkpoint, written when an epoch ends, keeps of this object."""
        return {"first_epoch": self.trainer.current_epoch + 1}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Take up the order of the batches where a checkpoint left it."""
        self._first_epoch = state_dict["first_epoch"]

    def _share(self) -> dict[str, int]:
        if self.trainer is None:
            return {}
        return {"rank": self.trainer.global_rank, "world_size": self.trainer.world_size}

    def _loader(
        self,
        dataset: Dataset,
        batches: LengthBatchSampler,
        collate: Callable[[Batch], Batch] = identity,
    ) -> DataLoader:
        return DataLoader(
            dataset,
            batch_sampler=batches,
            collate_fn=collate,
            num_workers=self._workers,
            persistent_workers=self._workers > 0,
        )

    def train_dataloader(self) -> DataLoader:
        """Return the shuffled training batches."""
        order = ShuffledOrder(len(self._train), self._seed)
        # Lightning sets the epoch of the later ones; when it resumes, the first batch is drawn
        # before it does.
        order.set_epoch(self._first_epoch)
        batches = LengthBatchSampler(
            self._train.lengths,
            self._letters_per_batch,
            order,
            self._repetitions,
            **self._share(),
        )
        collate: Callable[[Batch], Batch] = identity
        if self._replay and self.trainer and can_replay(self.trainer, self._is_remembered):
            collate = partial(filled, letters_per_batch=self._letters_per_batch)
        return self._loader(self._train, batches, collate)

    def val_dataloader(self) -> list[DataLoader]:
        """Return the validation batches, short words first: spellings, then aligned words."""
        return [
            self._loader(
                dataset,
                LengthBatchSampler(dataset.lengths, self._dev_letters_per_batch, **self._share()),
            )
            for dataset in self._dev
        ]
