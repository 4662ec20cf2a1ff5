"""Runs TensorRT engines of the core network, on an NVIDIA GPU.

An engine fits one model of GPU and one version of TensorRT, and neither tells so before it fails.
So a description lies beside each one, which also holds the model's alphabets: the two files are
all that it takes to pronounce words.
"""

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from numpy.typing import NDArray

from grapheme_to_phoneme.errors import MissingDependencyError, UserError
from grapheme_to_phoneme.inference.core import (
    CHUNK_IDS,
    LETTERS,
    LOG_PROBABILITIES,
    CoreAlphabets,
    Profile,
)
from grapheme_to_phoneme.packaging.engine_description import EngineDescription, read_description

#: The first version with all that is used here: before, strongly typed networks had gaps.
LEAST_VERSION = (10, 12)


def require_tensorrt() -> ModuleType:
    """Return the module ``tensorrt``.

    Raises:
        MissingDependencyError: if it or a GPU is missing, naming what is and how to get it.
    """
    missing = []
    try:
        import tensorrt
    except ImportError:
        missing.append(
            f"TensorRT {'.'.join(map(str, LEAST_VERSION))} or later (pip install tensorrt-cu12, "
            "or tensorrt-cu13 where nvidia-smi shows CUDA 13)"
        )
    else:
        check_version(tensorrt.__version__)
    if not torch.cuda.is_available():
        missing.append(
            "an NVIDIA GPU that PyTorch can use (a machine where nvidia-smi shows one, set up "
            "with TORCH_BUILD=cuda make setup)"
        )
    if missing:
        raise MissingDependencyError(f"this needs {', and '.join(missing)}")
    return tensorrt


def check_version(version: str) -> None:
    """Refuse a version of TensorRT that is too old.

    Raises:
        MissingDependencyError: if it is older than :data:`LEAST_VERSION`.
    """
    if tuple(int(part) for part in version.split(".")[:2]) < LEAST_VERSION:
        raise MissingDependencyError(
            f"this needs TensorRT {'.'.join(map(str, LEAST_VERSION))} or later, not {version}: "
            "pip install --upgrade tensorrt-cu12, or tensorrt-cu13 where nvidia-smi shows CUDA 13"
        )


class Engine:
    """An engine on the current GPU. It is to be used from one thread at a time.

    Args:
        plan: the engine's bytes, as TensorRT wrote them.
        tensorrt: the module.

    Raises:
        UserError: if TensorRT does not take the bytes.
    """

    def __init__(self, plan: bytes, tensorrt: ModuleType) -> None:
        runtime = tensorrt.Runtime(tensorrt.Logger(tensorrt.Logger.WARNING))
        # Both must live as long as the context.
        self._runtime, self._engine = runtime, runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise UserError("TensorRT does not take the engine: it says above why")
        self._context = self._engine.create_execution_context()
        self._stream = torch.cuda.Stream()
        #: Hypotheses for every word.
        self.beam_size = self._engine.get_tensor_shape(CHUNK_IDS)[1]

    @property
    def profile(self) -> Profile:
        """The shapes that the engine takes."""
        return Profile(*map(tuple, self._engine.get_tensor_profile_shape(LETTERS, 0)))

    def run(self, letters: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return chunk ids (batch, beam, length) and log probabilities (batch, beam).

        Args:
            letters: letter ids, 0 at padding, (batch, length), within the profile's bounds.

        Raises:
            UserError: if they are not.
        """
        smallest, largest = self.profile.smallest, self.profile.largest
        if np.any(letters.shape < np.array(smallest)) or np.any(letters.shape > np.array(largest)):
            raise UserError(
                f"the engine takes letters of shapes {smallest} to {largest}, not {letters.shape}"
            )
        batch, length = letters.shape
        with torch.cuda.stream(self._stream):
            tensors = {
                LETTERS: torch.from_numpy(np.ascontiguousarray(letters)).cuda(),
                CHUNK_IDS: torch.empty(
                    batch, self.beam_size, length, dtype=torch.int64, device="cuda"
                ),
                LOG_PROBABILITIES: torch.empty(batch, self.beam_size, device="cuda"),
            }
            self._context.set_input_shape(LETTERS, (batch, length))
            for name, tensor in tensors.items():
                self._context.set_tensor_address(name, tensor.data_ptr())
            if not self._context.execute_async_v3(self._stream.cuda_stream):
                raise UserError("TensorRT could not run the engine: it says above why")
        self._stream.synchronize()
        return tensors[CHUNK_IDS].cpu().numpy(), tensors[LOG_PROBABILITIES].cpu().numpy()


class EnginePronouncer:
    """Pronounces words with an engine: strings in, phones and log probabilities out.

    Args:
        engine: an engine that ``g2p export-tensorrt`` wrote; its description lies beside it.

    Raises:
        UserError: if one of the two files is missing or damaged, or made for another version of
            TensorRT or another GPU.
        MissingDependencyError: if TensorRT or a GPU is missing.
    """

    def __init__(self, engine: Path) -> None:
        tensorrt = require_tensorrt()
        self.description = read_description(engine)
        check_fit(self.description, tensorrt.__version__, torch.cuda.get_device_name())
        self._engine = Engine(engine.read_bytes(), tensorrt)
        self._alphabets = CoreAlphabets.from_properties(self.description.properties, str(engine))

    def pronounce(self, words: Sequence[str]) -> list[tuple[tuple[str, ...], float]]:
        """Return the best phones of each word, and the log probability of its letters' chunks.

        Args:
            words: spellings, as people write them; of each at most as many letters as the
                engine takes.
        """
        profile = self._engine.profile
        rows = profile.largest[0]
        answers = []
        for start in range(0, len(words), rows):
            letters = self._alphabets.encode(words[start : start + rows], profile.smallest[1])
            chunk_ids, scores = self._engine.run(letters)
            phones = self._alphabets.decode(chunk_ids[:, 0])
            answers += list(zip(phones, scores[:, 0].tolist(), strict=True))
        return answers


def check_fit(description: EngineDescription, version: str, gpu: str) -> None:
    """Refuse an engine that was built for something else.

    Raises:
        UserError: naming what it was built for.
    """
    if (description.tensorrt_version, description.gpu) != (version, gpu):
        raise UserError(
            f"the engine was built for TensorRT {description.tensorrt_version} on "
            f"{description.gpu}, and no other: here are TensorRT {version} and {gpu}. Build one "
            "here with `g2p export-tensorrt`"
        )
