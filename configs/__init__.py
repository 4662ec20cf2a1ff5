"""The project's configuration, one folder per operation; only files, no code.

This file is here for the build: Poetry carries a folder into the wheel, this one as
`grapheme_to_phoneme/configs`, only if it holds a Python module.
"""
