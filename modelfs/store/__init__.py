"""Object stores: get, range, put, put-if-absent, list, delete, with the same promises on every backend.

`base.Store` is the contract, `open.open_store` the only way in. Everything here is blocking and thread-safe.
"""
