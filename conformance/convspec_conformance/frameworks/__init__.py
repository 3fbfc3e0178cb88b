"""The modes of each framework, and its own calls with no adapter in between.

One file a framework, imported when one of its targets is loaded; the names are in
:mod:`convspec_conformance.catalogue`.
"""
