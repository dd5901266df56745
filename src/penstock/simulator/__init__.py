"""A stand-in for the Claude API over real HTTP on loopback. Imports nothing else of Penstock.

claude → [simulator]

The way of a request: http → api → validation → faults → limits → cache → replies → accounts → http.
"""

from penstock.simulator.clock import Clock, SystemClock, VirtualClock
from penstock.simulator.options import OptionError, SimulatorOptions
from penstock.simulator.process import SimulatorProcess, spawn
from penstock.simulator.server import Server, main, serve

__all__ = [
    "Clock",
    "OptionError",
    "Server",
    "SimulatorOptions",
    "SimulatorProcess",
    "SystemClock",
    "VirtualClock",
    "main",
    "serve",
    "spawn",
]
