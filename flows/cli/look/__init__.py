"""Look closer: which images an answer hangs on."""
