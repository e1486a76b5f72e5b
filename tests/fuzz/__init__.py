"""Fuzzing of every decoder: `targets` is the table, `mutate` makes inputs, ``python -m fuzz`` runs them (make fuzz)."""
