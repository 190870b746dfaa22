"""A local AWS that really does the work: an island, reached over HTTP, imported by nobody."""
