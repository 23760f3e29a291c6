"""The same program on another computer, over ssh and rsync."""
