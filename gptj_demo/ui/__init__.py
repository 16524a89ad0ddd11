"""The page: one file a tab, one for each component of our own, and the theme."""
