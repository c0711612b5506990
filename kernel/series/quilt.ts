/** One line of a quilt `series` file. */
export interface QuiltEntry {
  readonly file: string;
  readonly strip: number;
}

/** Patches in the order of a quilt `series` file: `#` comments, `-pN` and `-R` options after the name. */
export function parseQuiltSeries(text: string): readonly QuiltEntry[] {
  return text
    .split('\n')
    .map((line) => line.replace(/(?:^|\s)#.*$/u, '').trim())
    .filter((line) => line !== '')
    .map((line) => {
      const [file = '', ...options] = line.split(/\s+/u);
      const strip = /^-p(?:ab|(\d))$/u.exec(options.find((option) => option.startsWith('-p')) ?? '');
      return { file, strip: strip?.[1] === undefined ? 1 : Number(strip[1]) };
    });
}
