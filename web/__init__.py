"""The page that pronounces words in a browser: HTML, CSS and JavaScript, no Python.

This file is here for the build: Poetry carries a folder into the wheel, this one as
`grapheme_to_phoneme/web`, only if it holds a Python module.
"""
