"""What `pulang bench fuzz` feeds: targets, grouped by what their parsers face, and mutations that keep a form whole."""
