"""The command line ``g2p``: fire over Hydra's compose API.

Every command imports what it needs inside itself, so that help and prediction never wait for
PyTorch.
"""

import logging
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

import fire
from fire.decorators import SetParseFn

from grapheme_to_phoneme.constants import (
    EXIT_ENTRIES_LEFT_OUT,
    EXIT_TRAININGS_FAILED,
    EXIT_UNKNOWN_CHARACTERS,
)
from grapheme_to_phoneme.errors import UserError, require
from grapheme_to_phoneme.terminal import (
    arguments_for_fire,
    as_overrides,
    check_arguments,
    fail,
    fail_for_system,
    is_on,
    log_to_file,
    set_up_logging,
)

if TYPE_CHECKING:
    from omegaconf import DictConfig

LOGGER = logging.getLogger(__name__)

#: What `g2p serve` can run; each has a file of that name in configs/serve/.
SERVERS = ("mlflow", "triton")

#: What a shell gives a command that was ended by Ctrl-C.
EXIT_INTERRUPTED = 130


class Commands:
    """Grapheme-to-phoneme conversion: train on a lexicon, then pronounce unseen words.

    Settings are Hydra overrides, such as `g2p train data=lexicon data.train_path=my.tsv`;
    `g2p config` prints them all. `g2p --version` prints the version.
    """

    @SetParseFn(str)
    def download_data(self, *overrides: str, **unknown: str) -> None:
        """Fetch the raw lexicon, check its hash and put it under DVC.

        It comes from the DVC remote, else from its open source, else from a package.

        Args:
            overrides: Hydra overrides, such as data=cmudict paths.data_dir=DIR.
        """
        config = _compose("download-data", overrides, unknown)
        from grapheme_to_phoneme.lexicon.downloading import download_data

        LOGGER.info("the raw lexicon is %s", download_data(config))

    @SetParseFn(str)
    def preprocess(self, *overrides: str, **unknown: str) -> None:
        """Normalise the raw lexicon and divide it into train, dev and test.

        Args:
            overrides: Hydra overrides, such as preprocessing.stress=strip.
        """
        config = _compose("preprocess", overrides, unknown)
        from grapheme_to_phoneme.lexicon.downloading import download_data
        from grapheme_to_phoneme.lexicon.preprocessing import preprocess

        download_data(config)
        for name, path in preprocess(config).parts.items():
            LOGGER.info("%s: %s", name, path)

    @SetParseFn(str)
    def train(self, *overrides: str, multirun: str = "", **unknown: str) -> None:
        """Train a model and write it as DIR/model.onnx.

        Args:
            overrides: Hydra overrides, such as experiment=quick paths.run_dir=DIR, or
                resume=DIR to go on with an interrupted run.
            multirun: train with every combination of values that overrides list, as in
                data.language=ita,fra, and end with a table; needs no value.
        """
        if is_on("multirun", multirun):
            _train_all(overrides, unknown)
            return
        from grapheme_to_phoneme.runs import new_run_directory, resumed_run

        resumed, overrides = resumed_run(overrides)
        config = _compose("train", overrides, unknown)
        require("torch", "train")
        run_directory = resumed or new_run_directory(config)
        log_to_file(run_directory / "train.log")
        if resumed is None:
            from grapheme_to_phoneme.presets import automatic_overrides

            overrides = (*automatic_overrides(config, overrides), *overrides)
            config = _compose("train", overrides, unknown)
        # It takes seconds, which nobody should wait to be told of a mistake in the lexicon.
        from grapheme_to_phoneme import workflows

        workflows.train(config, overrides, run_directory)

    @SetParseFn(str)
    def export(self, *overrides: str, run: str = "", checkpoint: str = "", **unknown: str) -> None:
        """Write the model file of a run anew, from its best checkpoint.

        Args:
            overrides: Hydra overrides on top of the run's own.
            run: the run's directory; by default the newest.
            checkpoint: another checkpoint of that run.
        """
        directory, config = _run_and_config("export", run, overrides, unknown)
        require("torch", "train")
        from grapheme_to_phoneme import workflows

        workflows.export(config, directory, Path(checkpoint) if checkpoint else None)

    @SetParseFn(str)
    def export_tensorrt(
        self,
        *overrides: str,
        run: str = "",
        core: str = "",
        engine: str = "",
        show_arguments: str = "",
        **unknown: str,
    ) -> None:
        """Build a TensorRT engine of a core network, on the GPU that is to run it, and check it.

        Args:
            overrides: Hydra overrides, such as tensorrt.precision=float32.
            run: the run's directory; by default the newest.
            core: a core network's file, instead of a run's.
            engine: an engine that trtexec built, to check and describe instead.
            show_arguments: print trtexec's arguments, one a line, and do no more; needs no
                value, no TensorRT and no GPU.
        """
        given = {"core": core, "engine": engine, "show_arguments": show_arguments}
        overrides = (*overrides, *as_overrides("tensorrt", given))
        if core:
            config = _compose("export-tensorrt", overrides, unknown)
        else:
            directory, config = _run_and_config("export-tensorrt", run, overrides, unknown)
        require("torch", "train")
        from grapheme_to_phoneme.packaging import tensorrt_export

        path = Path(core) if core else tensorrt_export.core_of(directory, config)
        if config.tensorrt.show_arguments:
            lines = tensorrt_export.trtexec_arguments(path, config)
            sys.stdout.write("".join(f"{line}\n" for line in lines))
        else:
            tensorrt_export.export_engine(path, config)

    @SetParseFn(str)
    def package(self, *overrides: str, run: str = "", **unknown: str) -> None:
        """Put all that is delivered of a run's model into one folder.

        Args:
            overrides: Hydra overrides on top of the run's own, such as package.output=DIR.
            run: the run's directory; by default the newest.
        """
        directory, config = _run_and_config("package", run, overrides, unknown)
        from grapheme_to_phoneme.packaging.package import package_run

        target = package_run(directory, config)
        LOGGER.info("try it: g2p infer --model %s WORD", target)

    @SetParseFn(str)
    def export_triton(self, *overrides: str, model: str = "", **unknown: str) -> None:
        """Add a model to the repository that Triton Inference Server reads, as a new version.

        Args:
            overrides: Hydra overrides, such as serve.repository=DIR or serve.backend=onnxruntime.
            model: a model file, the folder of a package, or an address in MLflow, such as
                models:/NAME/1; by default the newest trained model.
        """
        flags = as_overrides("serve", {"model": model})
        config = _compose("export-triton", ("serve=triton", *overrides), unknown, flags=flags)
        from grapheme_to_phoneme.packaging.triton_repository import export_model

        export_model(config)

    @SetParseFn(str)
    def register(
        self, *overrides: str, run: str = "", model: str = "", alias: str = "", **unknown: str
    ) -> None:
        """Put a model into MLflow's registry, in the form that MLflow serves.

        Args:
            overrides: Hydra overrides, such as logger.tracking_uri=http://HOST:PORT or
                logger.registered_model=NAME.
            run: the run's directory; by default the newest.
            model: instead of a run, a model file or the folder of a package.
            alias: a name, such as champion, that shall stand for this version from now on.
        """
        if run and model:
            raise UserError("give --run or --model, not both")
        if model:
            config = _compose("register", overrides, unknown)
        else:
            directory, config = _run_and_config("register", run, overrides, unknown)
        require("mlflow", "tracking")
        from grapheme_to_phoneme.packaging import mlflow_model

        if model:
            registration = mlflow_model.register_model(Path(model), config, alias)
        else:
            registration = mlflow_model.register_run(directory, config, alias)
        address = registration.address
        LOGGER.info("%s is in MLflow at %s", address, registration.tracking_uri)
        LOGGER.info("try it: g2p serve mlflow --model %s", address)

    @SetParseFn(str)
    def serve(self, server: str = "", *overrides: str, model: str = "", **unknown: str) -> None:
        """Run an inference server, as in `g2p serve triton`, until Ctrl-C or SIGTERM.

        Args:
            server: which one: mlflow or triton.
            overrides: Hydra overrides, such as serve.http_port=9000 of Triton, or serve.port=5002
                of MLflow.
            model: a model file, the folder of a package, or an address in MLflow, such as
                models:/NAME/1; by default the newest trained model.
        """
        flags = as_overrides("serve", {"model": model})
        if server not in SERVERS:
            _compose("serve", [], unknown)
            commands = " or ".join(f"g2p serve {name}" for name in SERVERS)
            raise UserError(f"say which server to run: {commands}")
        config = _compose("serve", (f"serve={server}", *overrides), unknown, flags=flags)
        if server == "mlflow":
            _serve_mlflow(config)
        else:
            _serve_triton(config)

    @SetParseFn(str)
    def evaluate(
        self,
        *overrides: str,
        model: str = "",
        part: str = "",
        lexicon: str = "",
        language: str = "",
        **unknown: str,
    ) -> None:
        """Score a model file on a part of the data, or on any lexicon.

        Args:
            overrides: Hydra overrides, such as preprocessing.stress=strip.
            model: the model file; by default the newest trained one.
            part: train, dev or test.
            lexicon: a lexicon file to score on instead.
            language: what language the data is in, for a model of several and data of one.
        """
        given = {"model": model, "part": part, "lexicon": lexicon, "language": language}
        flags = as_overrides("evaluate", given)
        config = _compose("evaluate", overrides, unknown, flags=flags)
        from grapheme_to_phoneme.evaluation import evaluate
        from grapheme_to_phoneme.runs import model_path

        path = model_path(config, config.evaluate.model)
        target = evaluate(config, overrides, path, sys.stdout.write)
        LOGGER.info("written to %s", target)

    @SetParseFn(str)
    def infer(
        self,
        *words: str,
        model: str = "",
        server: str = "",
        input: str = "",
        output: str = "",
        n_best: str = "",
        beam_size: str = "",
        threads: str = "",
        dictionary: str = "",
        notation: str = "",
        language: str = "",
        show_alignment: str = "",
        show_source: str = "",
        resume: str = "",
        workers: str = "",
        engine: str = "",
        overrides: str = "",
        **unknown: str,
    ) -> None:
        """Pronounce words: one line each, word, tab, phones separated by spaces.

        Args:
            words: the words; without any, they come from the input.
            model: the model file, the folder of a package, or an address in MLflow, such as
                models:/NAME/1, models:/NAME@ALIAS or runs:/ID/model.onnx; by default the newest
                trained model.
            server: a running Triton to ask instead, grpc://HOST:PORT or http://HOST:PORT.
            input: a file with a word a line, or "-" for standard input.
            output: where the answers go; by default standard output.
            n_best: pronunciations per word; above 1, with their probabilities.
            beam_size: hypotheses kept while searching.
            threads: threads for the arithmetic; 0 takes one per core.
            dictionary: a lexicon file of your own, whose words are not left to the model.
            notation: what the phones are written in: ipa, x-sampa, arpabet or
                arpabet-without-stress; by default the model's own.
            language: which language the words are in, for a model of several: a code, such as
                ita, or a BCP 47 tag.
            show_alignment: add a column, such as x→K+S e→_: each letter and the phones that it
                gave, "_" for none; needs no value.
            show_source: add a last column, dictionary, lexicon or model; needs no value.
            resume: go on with an output that was interrupted; needs no value.
            workers: processes that answer at the same time, in the same order.
            engine: ray answers on a Ray cluster, local, the default, on this machine.
            overrides: further settings, separated by spaces: "infer.longest_word=64".
        """
        given = {
            "model": model,
            "server": server,
            "input": input,
            "output": output,
            "n_best": n_best,
            "beam_size": beam_size,
            "threads": threads,
            "dictionary": dictionary,
            "notation": notation,
            "language": language,
            "show_alignment": show_alignment,
            "show_source": show_source,
            "resume": resume,
            "workers": workers,
            "engine": engine,
        }
        flags = as_overrides("infer", given)
        settings = overrides.split()
        config = _compose("infer", settings, unknown, "prediction", flags)
        from grapheme_to_phoneme.bulk.job import pronounce

        report = pronounce(config, settings, words)
        for remark in report.remarks():
            LOGGER.warning("%s", remark)
        if report.unknown_count:
            raise SystemExit(EXIT_UNKNOWN_CHARACTERS)

    @SetParseFn(str)
    def languages(self, *wanted: str, filtered: str = "", **unknown: str) -> None:
        """List the lexicons that data=wikipron and data=sigmorphon2021 have, with their sizes.

        Args:
            wanted: codes, names or beginnings of names; by default all languages.
            filtered: also list WikiPron's filtered files; needs no value.
        """
        with_filtered = is_on("filtered", filtered)
        _compose("languages", [], unknown, "prediction")
        from grapheme_to_phoneme.lexicon.catalogues import list_lexicons

        lines = list_lexicons(wanted, with_filtered)
        sys.stdout.write("".join(f"{line}\n" for line in lines))

    @SetParseFn(str)
    def convert_lexicon(
        self,
        *paths: str,
        from_format: str = "",
        to_format: str = "",
        from_notation: str = "",
        to_notation: str = "",
        segment: str = "",
        language: str = "",
        overrides: str = "",
        **unknown: str,
    ) -> None:
        """Write a lexicon in another format or notation, and list what that cannot say.

        Formats: tsv, cmudict, kaldi, kaldi-probabilities, mfa, phonetisaurus, answers (what
        infer writes with --n-best), jsonl, pls. Notations: arpabet, arpabet-without-stress,
        ipa, x-sampa.

        Args:
            paths: the lexicon, and where the other one goes.
            from_format: the lexicon's format; by default told by its content.
            to_format: the format to write; by default told by the name.
            from_notation: what the phones are written in.
            to_notation: what to write them in; an entry with a phone that has no exact
                counterpart is left out.
            segment: divide pronunciations that are IPA without spaces; needs no value.
            language: a BCP 47 tag, for formats that have one.
            overrides: further settings, separated by spaces: "convert.report_limit=100".
        """
        given = {
            "from_format": from_format,
            "to_format": to_format,
            "from_notation": from_notation,
            "to_notation": to_notation,
            "segment": segment,
            "language": language,
        }
        flags = as_overrides("convert", given)
        command = "convert-lexicon"
        config = _compose(command, overrides.split(), unknown, "conversion", flags)
        if len(paths) != 2:
            raise UserError(
                f"{command} takes two files, g2p {command} IN OUT, not {len(paths)} of them"
            )
        from grapheme_to_phoneme.lexicon.conversion import convert_lexicon

        result = convert_lexicon(Path(paths[0]), Path(paths[1]), config.convert)
        for remark in result.remarks():
            LOGGER.warning("%s", remark)
        LOGGER.info(
            "%s: %s entries, from %s to %s",
            paths[1],
            f"{result.written:,}",
            result.source_format,
            result.target_format,
        )
        if result.left_out:
            raise SystemExit(EXIT_ENTRIES_LEFT_OUT)

    @SetParseFn(str)
    def review_lexicon(
        self, lexicon: str = "", *overrides: str, output: str = "", **unknown: str
    ) -> None:
        """List a lexicon's entries by how improbable models of its other words find them.

        The words are divided into folds, and each fold is judged by a model of the others. A
        review that was interrupted is continued by the same command.

        Args:
            lexicon: the lexicon file.
            overrides: Hydra overrides, such as review.folds=5 or data.format=mfa.
            output: the folder for the list, review.tsv and review.html; by default reviews/NAME.
        """
        flags = as_overrides("review", {"output": output})
        if not lexicon or "=" in lexicon:
            _compose("review-lexicon", (*filter(None, [lexicon]), *overrides), unknown)
            raise UserError("say which lexicon to review: g2p review-lexicon FILE")
        given = (
            "data=lexicon",
            *as_overrides("data", {"train_path": lexicon}),
            # A review leaves files of its own, and the bars of several folds would share a line.
            "logger=none",
            "callbacks.progress_refresh_rate=0",
            # What the command line says wins.
            *overrides,
        )
        config = _compose("review-lexicon", given, unknown, flags=flags)
        require("torch", "train")
        from grapheme_to_phoneme.lexicon.direction import refuse_reverse
        from grapheme_to_phoneme.presets import automatic_overrides

        refuse_reverse(config.direction, "review-lexicon judges pronunciations")
        preset = automatic_overrides(config, given, config.review.preset)
        config = _compose("review-lexicon", (*preset, *given), unknown, flags=flags)
        # A lexicon that cannot be read is refused before seconds pass with PyTorch's import.
        from grapheme_to_phoneme.review import folds, report

        path = Path(lexicon)
        target = Path(config.review.output or Path(config.paths.root) / "reviews" / path.stem)
        judgements = folds.review(path, config, target)
        for written in report.write_review(target, path.name, judgements, config.review.listed):
            LOGGER.info("wrote %s", written)

    @SetParseFn(str)
    def demo(
        self,
        *overrides: str,
        model: str = "",
        port: str = "",
        output: str = "",
        open: str = "",
        **unknown: str,
    ) -> None:
        """Serve a page that pronounces words in the browser, until Ctrl-C.

        Args:
            overrides: Hydra overrides, such as demo.runtime.directory=DIR.
            model: the model file that the page begins with; by default the newest trained one.
            port: the port to listen on; 0 takes any that is free.
            output: a folder to write the page into, for any file server, instead of serving it.
            open: open the browser; needs no value.
        """
        given = {"model": model, "port": port, "output": output, "open": open}
        flags = as_overrides("demo", given)
        config = _compose("demo", overrides, unknown, flags=flags)
        from grapheme_to_phoneme.demo import server, site
        from grapheme_to_phoneme.runs import model_path

        settings = config.demo
        files = site.prepare_site(model_path(config, settings.model), settings)
        if settings.output is None:
            server.serve(files, settings.host, settings.port, settings.open)
        else:
            site.write_site(files, Path(settings.output))

    @SetParseFn(str)
    def config(self, *overrides: str, **unknown: str) -> None:
        """Print the configuration that a command would run with.

        What `g2p train` chooses by the lexicon, such as the preset by its size, is not in it.

        Args:
            overrides: Hydra overrides.
        """
        config = _compose("config", overrides, unknown)
        from omegaconf import OmegaConf

        sys.stdout.write(OmegaConf.to_yaml(config))


def _train_all(overrides: tuple[str, ...], unknown: dict[str, str]) -> None:
    check_arguments("train", overrides, unknown)
    require("torch", "train")
    from grapheme_to_phoneme import multirun

    results, directory = multirun.run_all(overrides)
    sys.stdout.write(multirun.write_table(results, directory))
    failed = [result for result in results if result.failure]
    if failed:
        LOGGER.warning(
            "%d of %d trainings failed; again with multirun.dir=%s does only those",
            len(failed),
            len(results),
            directory,
        )
        raise SystemExit(EXIT_TRAININGS_FAILED)


def _compose(
    command: str,
    overrides: Iterable[str],
    unknown: dict[str, str],
    root: str = "config",
    flags: Iterable[str] = (),
) -> "DictConfig":
    """Compose the configuration; refuse what the command does not understand before any work."""
    from grapheme_to_phoneme.configuration import compose_config

    check_arguments(command, overrides, unknown)
    config = compose_config(list(overrides), root, list(flags))
    if command != "config" and "data" in config:
        from grapheme_to_phoneme.lexicon.catalogues import locate

        # What a run records is then what its language stands for.
        locate(config)
    return config


def _run_and_config(
    command: str, run: str, overrides: Iterable[str], unknown: dict[str, str]
) -> tuple[Path, "DictConfig"]:
    """Return a run's directory, the newest if none is named, and its configuration."""
    from grapheme_to_phoneme.configuration import load_overrides
    from grapheme_to_phoneme.runs import newest_run

    directory = Path(run)
    if not run:
        directory = newest_run(_compose(command, overrides, unknown))
    return directory, _compose(command, (*load_overrides(directory), *overrides), unknown)


def _serve_mlflow(config: "DictConfig") -> None:
    require("mlflow", "tracking")
    from grapheme_to_phoneme.packaging.model_address import is_model_address
    from grapheme_to_phoneme.runs import model_path
    from grapheme_to_phoneme.serving import mlflow_server

    given = config.serve.model
    mlflow_server.serve(config, given if is_model_address(given) else model_path(config, given))


def _serve_triton(config: "DictConfig") -> None:
    from grapheme_to_phoneme.packaging.triton_repository import export_model
    from grapheme_to_phoneme.serving import server_log, triton_engine, triton_server

    settings = config.serve
    server_log.use_format(settings.log_format)
    engine = triton_engine.choose_engine(settings)
    repository = export_model(config, engine)
    triton_server.serve(settings, repository.models, engine)


def main() -> None:
    """Run the command line and exit with its status."""
    if sys.argv[1:] == ["--version"]:
        from grapheme_to_phoneme import __version__

        sys.stdout.write(f"g2p {__version__}\n")
        return
    set_up_logging()
    try:
        fire.Fire(Commands(), command=arguments_for_fire(sys.argv[1:], Commands), name="g2p")
        sys.stdout.flush()
    except UserError as error:
        fail(str(error), error.exit_status)
    except KeyboardInterrupt:
        fail("interrupted", EXIT_INTERRUPTED)
    except OSError as error:
        fail_for_system(error)
