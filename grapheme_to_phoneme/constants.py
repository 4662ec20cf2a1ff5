"""Facts that hold everywhere in the package and are not meant to be tuned."""

PACKAGE_NAME = "grapheme_to_phoneme"
DISTRIBUTION_NAME = "grapheme-to-phoneme"

#: Exit status of ``infer`` when some words held characters that the model does not know.
EXIT_UNKNOWN_CHARACTERS = 4

#: Exit status of ``convert-lexicon`` when some entries could not be said in the target.
EXIT_ENTRIES_LEFT_OUT = 4

#: Curly and modifier apostrophes that users and lexicons write for U+0027.
APOSTROPHES = "\u2018\u2019\u201b\u02bc\u02b9\u2032\uff07"

#: Characters without a glyph of their own that copying from the web leaves in words.
INVISIBLE_CHARACTERS = "\u00ad\u200b\u2060\ufeff"

#: Exit status of ``train --multirun`` when some of the trainings failed.
EXIT_TRAININGS_FAILED = 4

#: What a model does: say spellings, or spell what is said.
GRAPHEME_TO_PHONEME = "grapheme-to-phoneme"
PHONEME_TO_GRAPHEME = "phoneme-to-grapheme"

#: The model file of a run.
MODEL_FILENAME = "model.onnx"

#: The folder of a run's checkpoints.
CHECKPOINT_DIRECTORY = "checkpoints"

#: The scores of a run's model on the dev part.
SCORE_FILENAME = "metrics.yaml"

#: The folder of all variants of a model file, beside it.
VARIANTS_DIRECTORY = "variants"

#: The folder of the networks without strings, beside a model file.
CORE_DIRECTORY = "core"

#: The artifact of a model in MLflow that is its package's folder, or its model file.
MLFLOW_ARTIFACT = "package"
