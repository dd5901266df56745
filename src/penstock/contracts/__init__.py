"""What stands in the topics, as documents that machines read: JSON Schemas, AsyncAPI, and what a change would break.

task → [contracts] → producers and readers in other languages
"""
