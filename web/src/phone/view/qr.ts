// Draws a QR code, dark on light in every color scheme: cameras want it so.

import { encode } from "uqr";

const SVG = "http://www.w3.org/2000/svg";

/** `label`: what it is to who cannot see it. */
export function qr(text: string, label: string): SVGSVGElement {
  // Four modules of quiet around it: ISO/IEC 18004 section 9.1.
  const { size, data } = encode(text, { ecc: "M", border: 4 });
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${size} ${size}`);
  svg.setAttribute("class", "qr");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  const path = document.createElementNS(SVG, "path");
  const dark = data.flatMap((row, y) => row.map((on, x) => (on ? `M${x} ${y}h1v1h-1z` : "")));
  path.setAttribute("d", dark.join(""));
  svg.append(path);
  return svg;
}
