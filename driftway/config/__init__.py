"""Configurations: YAML that is data only, and components chosen in it by name from explicit tables."""

from driftway.config.build import check, construct, placed
from driftway.config.yaml import Located, Place, dump_yaml, load_yaml, override, parse_value

__all__ = ["Located", "Place", "check", "construct", "dump_yaml", "load_yaml", "override", "parse_value", "placed"]
