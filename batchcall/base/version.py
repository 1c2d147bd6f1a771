"""The version of this package, said in one place."""

VERSION = "0.2.0"
