"""One model in another format, without moving its tensors.

`opening` finds the files of a model in a store and asks the module in `sources` for their tensors; a module in
`targets` plans a file of them: literal bytes and ranges of the source (`plan`); `compose` makes the plan a file of the
store, whose tensors are the chunks that are there already. `shards` spreads a model over files. Only headers are
written, and what formats without them need of the data (checksums) is read as a stream.
"""
