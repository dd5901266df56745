"""Who answers: Claude models. `ClaudeTier` is the choice; everything else here serves it."""
