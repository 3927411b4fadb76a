import { render, screen } from "@testing-library/react";
import { describe, expect, it } from "vitest";
import "../i18n";
import Markdown from "./markdown";

const textOf = (text: string) => render(<Markdown text={text} />).container.textContent?.replace(/\s+/g, " ").trim() ?? "";

describe("the text of a model", () => {
  it("keeps money", () => {
    const said = "Tickets cost $5 for children and $10 for adults.";
    const { container } = render(<Markdown text={said} />);
    expect(container.textContent).toBe(said);
    expect(container.querySelector(".katex")).toBeNull();
  });
  it("shows mathematics in every notation", () => {
    const { container } = render(<Markdown text={"a $x^2$ b \\(y\\)\n\n$$ a = b\n+ c $$\n\n- $$z$$ in a list"} />);
    expect(container.querySelectorAll(".katex")).toHaveLength(4);
    expect(container.querySelectorAll(".katex-display")).toHaveLength(1);
    expect(container.querySelector(".katex-display annotation")!.textContent).toContain("a = b");
  });
  it("resolves links and footnotes over blocks", () => {
    const { container } = render(<Markdown text={"See [the paper][1] and a footnote[^a].\n\nOther text.\n\n[1]: https://example.org/paper \"Title\"\n[^a]: Important caveat: do not mix with bleach."} />);
    expect(screen.getByRole("link", { name: "the paper" }).getAttribute("href")).toBe("https://example.org/paper");
    expect(container.textContent).toContain("do not mix with bleach");
    expect(container.querySelector("section[data-footnotes]")).not.toBeNull();
  });
  it("resolves a link whose definition is in another block, without making it one block", () => {
    render(<Markdown text={"[A] and [text][b b].\n\n```\n[a]: https://wrong.example\n```\n\n[a]: https://example.org/a\n[B  B]: <https://example.org/b>"} />);
    expect(screen.getAllByRole("link").map((each) => each.getAttribute("href"))).toEqual(["https://example.org/a", "https://example.org/b"]);
  });
  it.each([
    ["Text.\n\n[1]: https://example.org/unused", "https://example.org/unused"], ["Text.\n\n[^n]: A note that nothing refers to.", "A note that nothing refers to."],
    ["> [q]: https://example.org/quoted", "https://example.org/quoted"], ["a[^1]\n\n[^1]: first\n\n[^2]: never used", "never used"], ["[x]: javascript:alert(1)", "javascript:alert(1)"],
    ["<b>bold</b> and <!-- a comment -->", "<!-- a comment -->"], ["$$\n\\frac{1}{2}", "\\frac{1}{2}"],
  ])("leaves nothing out: %j", (text, part) => expect(textOf(text)).toContain(part));
  it("gives two answers on a page footnotes of their own", () => {
    const note = "x[^1]\n\n[^1]: note";
    const { container } = render(<><Markdown text={note} /><Markdown text={note} /></>);
    const ids = [...container.querySelectorAll("[id]")].map((each) => each.id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const link of container.querySelectorAll("a[href^='#']")) expect(ids).toContain(link.getAttribute("href")!.slice(1));
  });
  it("shows no link where there is none to follow", () => {
    const { container } = render(<Markdown text={"[click](javascript:alert(1)) and [good](https://example.org)"} />);
    expect([...container.querySelectorAll("a")].map((each) => each.textContent)).toEqual(["good"]);
    expect(container.textContent).toContain("click");
  });
  it("is set in the direction of its own letters, code from left to right", () => {
    const { container } = render(<Markdown text={"مرحبا\n\n- بند\n\n| א |\n|---|\n| ב |\n\n```\ncode\n```"} />);
    for (const name of ["p", "li", "th", "td"]) expect(container.querySelector(name)!.getAttribute("dir"), name).toBe("auto");
    for (const name of ["ul", "table"]) expect(container.querySelector(name)!.getAttribute("dir"), name).toBe("rtl");
    expect(container.querySelector("pre")!.getAttribute("dir")).toBe("ltr");
  });
});
