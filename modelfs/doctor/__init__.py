"""Is this machine, and a store, fit for mounts? Checks that look and measure, and say what to do.

`finding` is what a check says; `machine` looks at the kernel and its limits, `disks` at where cache and journal lie,
`remote` at a store. No check changes anything that stays; `modelfs doctor` runs them.
"""
