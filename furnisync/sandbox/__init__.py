"""An imitation of Etsy (API and image CDN) for the demo, tests and benchmarks.

It imports nothing from the rest of the package, so that it cannot share our misunderstandings.
"""
