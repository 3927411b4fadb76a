import { describe, expect, it } from "vitest";
import { splitBlocks } from "./blocks";
import { normaliseMath } from "./math";

describe("dollars", () => {
  const money = [
    "Tickets cost $5 for children and $10 for adults.", "It is $5-$10, or $3.50/$4.", "US$5 or A$7, R$10 e R$20", "a $ b $ c", "$HOME/$PATH and $HOME:$PATH",
    "$AAPL rose, $MSFT fell", "AAPL ($5) and MSFT ($10)", "价格是$5，另一个是$10。", "between $1,000 and $2,000", "$5\n\n$6", "`$x$` and ``$y$``", "```\n$x$\n```\n", "~~~\n$$x$$\n~~~", "text\n\n    $x$ = 1\n    $y$",
    "a single $", "\\$5 and \\$10$", "https://example.org/?$filter=a&$top=5",
  ];
  it.each(money)("stay as they are: %j", (text) => expect(normaliseMath(text)).toBe(text));
  it.each([
    ["from $$ to $$$ a night", "from \\$\\$ to \\$\\$\\$ a night"],
    ["$$: moderate\n$$$: expensive", "\\$\\$: moderate\n\\$\\$\\$: expensive"],
    ["($$) to ($$)", "(\\$\\$) to (\\$\\$)"],
    ["$$ is moderate.\n\nMore.", "\\$\\$ is moderate.\n\nMore."],
  ])("that stand for prices are escaped: %j", (text, wanted) => expect(normaliseMath(text)).toBe(wanted));
});

describe("mathematics", () => {
  it.each([
    ["so $x^2$ is", "so $$x^2$$ is"], ["变量$x$的值", "变量$$x$$的值"], ["($\\alpha$)", "($$\\alpha$$)"], ["\\(a\\) but `\\(c\\)`", "$$a$$ but `\\(c\\)`"],
    ["$$x$$ is", "$$x$$ is"], ["The formula $$ E = mc^2 $$ holds", "The formula $$E = mc^2$$ holds"],
    ["$$ a = b\n+ c $$", "$$\na = b\n+ c\n$$"], ["$$a$$", "$$\na\n$$"], ["$$\na\n$$", "$$\na\n$$"], ["\\[b\\]", "$$\nb\n$$"],
    ["and \\[b\\] but", "and \n$$\nb\n$$\n but"], ["1. so\n   \\[\n   b\n   \\]", "1. so\n   $$\n   b\n   $$"], ["> \\[b\\]", "> $$\n> b\n> $$"],
    ["- see\n\n    $x$ here", "- see\n\n    $$x$$ here"], ["$x$ and $5", "$$x$$ and $5"], ["$5 and $x$", "$5 and $$x$$"],
  ])("%j", (text, wanted) => expect(normaliseMath(text)).toBe(wanted));
  it("is split into blocks that hold it whole", () => {
    expect(splitBlocks(normaliseMath("$x$ is\n\nthe end"))).toEqual(["$$x$$ is\n", "the end"]);
    expect(splitBlocks(normaliseMath("$$ a\n\nb $$\n\nthe end"))).toEqual(["$$\na\nb\n$$\n", "the end"]);
  });
  it.each(["\\(", "\\[", "$", "$$ ", "`", "`` ` ", "$$", "    x\n\n", "[^", "\\[ $ ` "])("%j, a hundred thousand times, takes no time", (piece) => {
    const before = performance.now();
    normaliseMath(piece.repeat(100_000));
    expect(performance.now() - before).toBeLessThan(4000);
  });
});
