"""What the sub-commands of `mambaout` do: thin faces of functions that notebooks call too."""
