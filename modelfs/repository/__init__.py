"""The meaning of what is stored: chunks, manifests, trees, commits and tags (docs/store-format.md).

`repository.Repository` is the face; `objects` holds the vocabulary.
"""
