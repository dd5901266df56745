"""What people write instead: consumers of the same topic that ask the same model, each as a competent engineer in a hurry would.

None imports Penstock. `python -m benchmarks.rivals.NAME BOOTSTRAP API_URL TOPIC RESULTS GROUP`; they end on SIGTERM.
"""
