// The timeline's lanes as one picture: as SVG, and drawn by the browser as PNG, in the colours in which they are shown.
const SHAPE = ["fill", "stroke", "stroke-width", "stroke-linecap", "opacity"];
const WIDE = 1000;
const MARGIN = 20;
const LINE = 18; // pixels of a line of text
const SCALE = 2; // pixels of the PNG for each of the SVG
const NAMESPACE = "http://www.w3.org/2000/svg";

const element = (name, attributes, ...children) => {
  const made = document.createElementNS(NAMESPACE, name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
};

const words = (text, x, y, colour, size = 12, anchor = "start") => element("text",
  { x, y, fill: colour, "font-family": "sans-serif", "font-size": size, "text-anchor": anchor }, text);

/** A lane's caption, its keys as squares in their colours. */
const captioned = (caption, y, colour) => {
  const line = words("", MARGIN, y, colour);
  line.setAttribute("xml:space", "preserve");
  [...caption.children].forEach((part) => {
    const key = part.querySelector("rect");
    if (key) line.append(element("tspan", { fill: getComputedStyle(key).fill }, "■ "));
    const weight = getComputedStyle(part).fontWeight;
    line.append(element("tspan", { "font-weight": weight }, `${part.textContent.replace(/\s+/g, " ").trim()}    `));
  });
  return line;
};

/** A lane at that height; styles come along, since a picture has no style sheet. */
const copied = (lane, y) => {
  const copy = lane.cloneNode(true);
  const shapes = [...lane.querySelectorAll("*")];
  [...copy.querySelectorAll("*")].forEach((shape, i) => {
    const style = getComputedStyle(shapes[i]);
    SHAPE.forEach((name) => shape.setAttribute(name, style.getPropertyValue(name)));
    shape.removeAttribute("class");
  });
  ["class", "style", "aria-label"].forEach((name) => copy.removeAttribute(name));
  const height = lane.viewBox.baseVal.height;
  Object.entries({ x: MARGIN, y, width: WIDE, height }).forEach(([name, value]) => copy.setAttribute(name, value));
  return [copy, height];
};

/** The picture of that section, as SVG. */
const drawn = (section, title) => {
  const { color, backgroundColor } = getComputedStyle(section);
  const parts = [words(title, MARGIN, MARGIN + 4, color, 15)];
  let top = MARGIN + LINE;
  section.querySelectorAll("figure.lane").forEach((figure) => {
    parts.push(captioned(figure.querySelector("figcaption"), top + 12, color));
    const [copy, height] = copied(figure.querySelector("svg.drawn"), top + LINE);
    parts.push(copy);
    top += LINE + height + 4;
  });
  section.querySelectorAll(".ticks span").forEach((tick) => parts.push(
    words(tick.textContent, MARGIN + (parseFloat(tick.style.left) * WIDE) / 100, top + 12, color, 11, "middle")));
  const size = { width: WIDE + 2 * MARGIN, height: top + 2 * MARGIN };
  const ground = element("rect", { ...size, fill: backgroundColor });
  return [new XMLSerializer().serializeToString(element("svg", size, ground, ...parts)), size];
};

const save = (url, name) => {
  const link = document.createElement("a");
  Object.assign(link, { href: url, download: name });
  link.click();
};

const asUrl = (svg) => `data:image/svg+xml;charset=utf-8,${encodeURIComponent(svg)}`;

export const saveAsSvg = (section, title) => save(asUrl(drawn(section, title)[0]), "timeline.svg");

export const saveAsPng = async (section, title) => {
  const [svg, { width, height }] = drawn(section, title);
  const image = new Image();
  image.src = asUrl(svg);
  await image.decode();
  const canvas = document.createElement("canvas");
  Object.assign(canvas, { width: width * SCALE, height: height * SCALE });
  const context = canvas.getContext("2d");
  context.scale(SCALE, SCALE);
  context.drawImage(image, 0, 0);
  save(canvas.toDataURL("image/png"), "timeline.png");
};
