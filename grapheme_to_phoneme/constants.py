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

#: The model file of a run.
MODEL_FILENAME = "model.onnx"

#: The folder of all variants of a model file, beside it.
VARIANTS_DIRECTORY = "variants"

#: The folder of the networks without strings, beside a model file.
CORE_DIRECTORY = "core"

#: The artifact of a model in MLflow that is its package's folder, or its model file.
MLFLOW_ARTIFACT = "package"
