"""The compiled part of the search: nothing else is in this folder, so that nothing else makes it compile anew."""
