"""The page that runs a model in the browser, and the file server that brings it there."""
