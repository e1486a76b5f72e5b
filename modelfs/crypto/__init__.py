"""Keys, seals and signatures: the only package that touches `cryptography`. Pure functions over bytes, no I/O.

`objects` seals what goes into an encrypted store, `keyring` holds the keys that do it, `slots` wraps those under
passphrases and key files, `kdf` derives keys, `signing` signs commits. docs/store-format.md has every byte,
docs/security.md says what it is good for.
"""
