"""A neutral text from which reference activations of language models are taken. Written for this
purpose.
"""

BACKGROUND = (
    """
The harbour was quiet in the early morning, and only a few boats had left for the open sea. On the
quay a woman was sorting nets while two children counted the gulls on the roof of the old warehouse.
A train passed behind the houses every half hour, and nobody looked up any more when the windows
trembled. Later in the day the market opened, with bread, fish, apples, wool and second-hand books
laid out on long wooden tables. People asked about prices, argued a little, and mostly paid what was
written on the cards.

Water boils at a lower temperature in the mountains because the air presses less on its surface.
Cooks who move from the coast to a high valley notice that beans need longer and that tea never
tastes quite the same. The effect is small at a few hundred metres and hard to miss at three
thousand. A pressure cooker undoes it by keeping the steam inside.

The committee met on Tuesday to decide what should happen with the empty building next to the
library. Some members wanted a workshop for bicycles, others a room where the choir could practise
in the evenings. After two hours they agreed to ask an engineer whether the floor was strong enough
for either plan, and they adjourned until the spring.

When the rain stopped, the path along the river was covered with leaves and small branches. He
walked slowly, looking for the place where the stones make a crossing, and found that the water had
risen above them. So he turned around, took the longer way over the bridge, and arrived home after
dark. His sister had kept some soup warm on the stove.

A good dictionary does more than list the meanings of a word. It shows how the word has been used,
which other words keep it company, and when it began to change. Reading one from the first page to
the last is an odd way to spend a winter, but those who have done it say that they never regretted
the time.
""".replace("\n\n", "\0")
    .replace("\n", " ")
    .replace("\0", "\n")
    .strip()
)
