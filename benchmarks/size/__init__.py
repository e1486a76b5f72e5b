"""How large stores become: series of checkpoints saved by modelfs and by the tools that users would pick instead."""
