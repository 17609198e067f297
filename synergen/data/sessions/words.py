"""The shop's vocabulary, and names for the brands and models that no dictionary holds.

A thing has three names, written "a|b|c": titles use the first two, queries all three. An attribute or a modifier has
two, "a|b": titles use the first, queries both. So queries hold words that no title does.
"""

import math

import numpy as np

DEPARTMENTS = {
    "Grocery|food": {
        "Hot Drinks": "coffee|espresso|java, tea|infusion|brew, drinking chocolate|chocolate powder|cacao, "
        "chicory|chicory blend|caffeine free",
        "Breakfast": "muesli|granola|cereal, jam|preserve|spread, oats|porridge|oatmeal, syrup|treacle|molasses",
        "Snacks": "crackers|crispbread|biscuits, nuts|nut mix|almonds, candy|sweets|lollies, "
        "popcorn|puffed corn|nibbles",
        "Cooking": "pasta|noodles|spaghetti, oil|cooking oil|sunflower, spice|seasoning|herbs, rice|basmati|grain",
    },
    "Furniture|furnishings": {
        "Living Room": "sofa|couch|settee, armchair|easy chair|recliner, coffee table|side table|stand, "
        "bookcase|bookshelf|shelving",
        "Bedroom": "bed frame|bedstead|bunk, wardrobe|closet|armoire, dresser|chest of drawers|commode, "
        "nightstand|bedside table|night cabinet",
        "Office": "desk|writing table|workstation, office chair|swivel chair|task seat, "
        "filing cabinet|file drawer|archive, "
        "desk lamp|reading lamp|task light",
        "Dining": "dining table|kitchen table|refectory, bar stool|counter stool|high seat, bench|dining bench|pew, "
        "sideboard|buffet cabinet|credenza",
    },
    "Beauty|cosmetics": {
        "Hair": "shampoo|hair wash|cleanser, conditioner|hair balm|detangler, hair mask|hair treatment|repair cream, "
        "hairspray|hair lacquer|fixative",
        "Skin": "face cream|moisturizer|lotion, serum|face concentrate|elixir, sunscreen|sun milk|sunblock, "
        "body butter|body balm|skin softener",
        "Make-up": "lipstick|lip colour|rouge, mascara|lash paint|eyelash thickener, "
        "foundation|base make-up|concealer, "
        "nail polish|nail varnish|manicure paint",
        "Bath": "soap|soap bar|hand cleaner, shower gel|body wash|bath foam, bath salt|bath crystals|soak, "
        "deodorant|antiperspirant|roll-on",
    },
    "Kitchen|cookware": {
        "Pots": "saucepan|pot|casserole, frying pan|skillet|fryer, wok|stir-fry pan|chinese pan, "
        "roasting tin|roaster|oven dish",
        "Appliances": "blender|mixer|liquidizer, toaster|bread toaster|browning oven, kettle|water boiler|teapot, "
        "juicer|citrus press|squeezer",
        "Tableware": "plate|dinner plate|dish, mug|cup|beaker, bowl|serving bowl|basin, cutlery|flatware|silverware",
        "Tools": "chef knife|kitchen knife|blade, chopping board|cutting board|butcher block, grater|shredder|zester, "
        "whisk|balloon whisk|egg beater",
    },
    "Pets|animals": {
        "Dog Food": "dog food|kibble|puppy chow, dog treat|dog biscuit|chewie, dog bone|chew bone|gnaw stick, "
        "dog vitamins|dog supplement|canine drops",
        "Cat Food": "cat food|cat pellets|kitten chow, cat treat|cat snack|feline bites, "
        "cat litter|litter sand|kitty gravel, "
        "cat milk|kitten milk|feline formula",
        "Walking": "dog lead|leash|tether, harness|dog vest|chest strap, collar|neck band|choker, "
        "muzzle|snout guard|bite guard",
        "Home": "pet bed|pet cushion|basket, scratching post|cat tree|climber, aquarium|fish tank|vivarium, "
        "bird cage|aviary|parrot house",
    },
    "Clothing|apparel": {
        "Tops": "shirt|blouse|button-down, sweater|pullover|jumper, t-shirt|tee|undershirt, "
        "hoodie|hooded top|sweatshirt",
        "Bottoms": "jeans|denim|dungarees, trousers|pants|slacks, skirt|wrap skirt|kilt, shorts|short pants|bermudas",
        "Outerwear": "jacket|windbreaker|anorak, coat|overcoat|parka, vest|gilet|bodywarmer, "
        "raincoat|rain jacket|mackintosh",
        "Shoes": "sneakers|trainers|running shoes, boots|ankle boots|wellingtons, sandals|slides|flip-flops, "
        "slippers|house shoes|moccasins",
    },
    "Sports|fitness": {
        "Gym": "dumbbell|hand weight|barbell, yoga mat|exercise mat|pilates rug, "
        "resistance band|training band|stretch loop, "
        "jump rope|skipping rope|speed cord",
        "Cycling": "bicycle helmet|bike helmet|headgear, bicycle light|bike lamp|headlight, "
        "bike lock|cycle lock|chain, "
        "saddle|bike saddle|bicycle seat",
        "Camping": "tent|dome tent|shelter, sleeping bag|camp bag|bedroll, camping stove|gas stove|burner, "
        "hiking pole|trekking pole|walking stick",
        "Ball Games": "football|soccer ball|kickball, tennis racket|tennis racquet|bat, basketball|hoop ball|dunker, "
        "goalkeeper gloves|goalie gloves|keeper mitts",
    },
    "Electronics|gadgets": {
        "Audio": "headphones|headset|earphones, speaker|loudspeaker|boombox, microphone|mic|voice recorder, "
        "turntable|record player|gramophone",
        "Computing": "keyboard|computer keyboard|keypad, mouse|computer mouse|pointer, monitor|display|screen, "
        "laptop sleeve|notebook sleeve|computer case",
        "Phones": "charger|power adapter|plug, phone case|phone cover|bumper, power bank|battery pack|spare battery, "
        "cable|charging cable|cord",
        "Photo": "camera|digital camera|camcorder, tripod|camera stand|monopod, lens|camera lens|objective, "
        "memory card|storage card|flash memory",
    },
    "Garden|outdoor": {
        "Plant Care": "fertilizer|plant food|manure, potting soil|compost|earth, seeds|flower seeds|seedlings, "
        "weed killer|herbicide|weeding agent",
        "Tools": "spade|garden spade|shovel, rake|leaf rake|hoe, pruning shears|secateurs|clippers, "
        "wheelbarrow|garden cart|trolley",
        "Patio": "garden chair|patio chair|deckchair, parasol|sunshade|umbrella, hammock|garden swing|hanging bed, "
        "lantern|garden light|torch",
        "Watering": "garden hose|water hose|tube, sprinkler|lawn sprinkler|irrigator, "
        "watering can|sprinkling can|ewer, "
        "rain barrel|water butt|cistern",
    },
    "Baby|infant": {
        "Nappies": "nappies|diapers|pampers, baby wipes|wet wipes|moist tissues, baby powder|talc|talcum, "
        "baby oil|infant oil|massage oil",
        "Feeding": "baby bottle|feeding bottle|nurser, high chair|feeding chair|booster, bib|feeding bib|drool cloth, "
        "pacifier|soother|dummy",
        "Travel": "stroller|pushchair|buggy, car seat|child seat|infant carrier, baby sling|baby carrier|wrap, "
        "changing bag|diaper bag|nappy backpack",
        "Nursery": "cot|crib|cradle, baby monitor|babyphone|intercom, night light|nursery lamp|glow lamp, "
        "mobile|crib mobile|hanging toy",
    },
    "Toys|games": {
        "Building": "building blocks|toy bricks|construction set, marble run|marble track|ball maze, "
        "train set|toy railway|locomotive, puzzle|jigsaw|brain teaser",
        "Dolls": "doll|baby doll|figurine, dollhouse|doll villa|miniature home, teddy bear|plush bear|stuffed animal, "
        "puppet|hand puppet|marionette",
        "Outdoor Play": "kite|stunt kite|glider, scooter|kick scooter|push bike, sandbox|sand pit|sand tray, "
        "trampoline|garden trampoline|bouncer",
        "Board Games": "board game|family game|parlour game, card game|playing cards|deck, "
        "chess set|chess board|chessmen, "
        "dice set|dice game|cubes",
    },
    "Household|home": {
        "Cleaning": "detergent|washing powder|laundry soap, dish soap|washing-up liquid|degreaser, "
        "bin bags|trash bags|rubbish sacks, paper towels|kitchen roll|wipes",
        "Textiles": "towel|bath towel|washcloth, curtain|drape|window panel, blanket|throw|quilt, "
        "pillow|cushion|headrest",
        "Storage": "storage box|storage bin|crate, laundry basket|hamper|washing bin, hanger|coat hanger|clothes hook, "
        "shelf|wall shelf|rack",
        "Lighting": "light bulb|lamp bulb|led, floor lamp|standing lamp|uplighter, candle|pillar candle|taper, "
        "string lights|fairy lights|light chain",
    },
}
"""Department -> category -> things."""

CONSUMABLES = {
    *("Hot Drinks", "Breakfast", "Snacks", "Cooking", "Hair", "Skin", "Make-up", "Bath"),
    *("Dog Food", "Cat Food", "Plant Care", "Nappies", "Cleaning"),
}
"""Categories whose things are used up and bought again."""

MODIFIERS = (
    "|, travel|trip, kids|children, winter|cold weather, summer|hot weather, professional|expert, gift|present, "
    "studio|atelier, party|celebration, holiday|vacation, office|workplace, student|school, senior|elderly, "
    "designer|couture, eco|green planet, heavy duty|industrial, silent|quiet, festival|carnival, wedding|bridal, "
    "christmas|xmas, sport|athletic, city|urban, country|rural, hotel|guesthouse"
)
"""What tells the leaves of one thing apart in a large catalogue; the first is none."""

DURABLE_ATTRIBUTES = (
    "red|crimson, blue|azure, green|emerald, grey|charcoal, black|ebony, white|snowy, pink|rosy, yellow|golden, "
    "purple|violet, brown|chestnut, beige|sandy, orange|tangerine",
    "matte|dull, glossy|shiny, striped|lined, dotted|spotted, chequered|plaid, printed|illustrated, metallic|chrome, "
    "transparent|see-through, two-tone|bicolour, engraved|etched, padded|cushioned, textured|rough",
    "vintage|retro, modern|contemporary, compact|small, large|big, lightweight|light, waterproof|rainproof, "
    "foldable|collapsible, premium|luxury, portable|handy, adjustable|flexible, handmade|handcrafted, rustic|farmhouse",
)
"""Three kinds of attribute: colour, finish, style."""

CONSUMABLE_ATTRIBUTES = (
    "lavender|flowery, vanilla|sweet, lemon|sour, mint|menthol, coconut|tropical, rose|blossom, honey|nectar, "
    "ginger|spicy, apple|orchard, caramel|toffee, berry|fruity, plain|neutral",
    "organic|bio, vegan|plant-based, sensitive|gentle, natural|pure, strong|intense, mild|soft, fresh|cool, "
    "classic|traditional, artisan|farm-made, certified|approved, local|regional, rich|creamy",
    "family pack|household size, mini pack|tiny, refill pack|replacement, bulk pack|wholesale, single pack|individual, "
    "twin pack|double, jumbo pack|giant, sampler pack|trial, economy pack|cheap, starter pack|beginner, "
    "deluxe pack|gourmet, everyday pack|daily",
)
"""Three kinds of attribute: flavour or scent, claim, size."""


def entries(stock: str) -> list[list[str]]:
    """The names of each entry of "a|b, c|d"."""
    return [entry.strip().split("|") for entry in stock.split(", ")]


_SOUNDS = (
    ("B", "Br", "C", "D", "F", "G", "H", "K", "L", "M", "N", "P", "R", "S", "St", "T", "Tr", "V", "W", "Z"),
    ("a", "e", "i", "o", "u"),
    ("l", "ld", "m", "n", "nd", "r", "rv", "s", "t", "v", "nt", "z"),
    ("a", "e", "i", "o", "u"),
    ("don", "lek", "lus", "mor", "nen", "num", "ra", "sis", "tia", "vo"),
)


def invented_names(n: int, rng: np.random.Generator) -> list[str]:
    """n distinct pronounceable names, at most 60,000."""
    places = np.unravel_index(
        rng.choice(math.prod(map(len, _SOUNDS)), n, replace=False), [len(sounds) for sounds in _SOUNDS]
    )
    return [
        "".join(parts) for parts in zip(*(np.array(s)[p] for s, p in zip(_SOUNDS, places, strict=True)), strict=True)
    ]


def model_words(n: int, rng: np.random.Generator) -> list[str]:
    """n names of models like TK340: they tell nothing."""
    letters = rng.integers(ord("A"), ord("Z") + 1, (n, 2)).tolist()
    numbers = rng.integers(10, 100, n).tolist()
    return [f"{chr(a)}{chr(b)}{10 * number}" for (a, b), number in zip(letters, numbers, strict=True)]


def misspelt(words: str, place: int) -> str:
    """`words` without one letter of the first word that has four or more, never its first letter."""
    first = next((word for word in words.split() if len(word) >= 4), words)
    at = 1 + place % (len(first) - 1)
    return words.replace(first, first[:at] + first[at + 1 :], 1)
