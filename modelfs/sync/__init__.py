"""Copying what one store has and another one lacks: history (`history`), objects (`objects`, `rewrite`), and `sync`,
which brings them together. Blocking; used by the command line."""
