/** What the kernel prints of a bitmap, `%*pbl`: `3,7-9` → 3, 7, 8, 9. Pure; what is no number is left out. */
export function numberList(text: string): readonly number[] {
  return text
    .trim()
    .split(',')
    .flatMap((part) => {
      const match = /^(\d{1,6})(?:-(\d{1,6}))?$/.exec(part);
      if (match === null) return [];
      const first = Number(match[1]);
      const last = match[2] === undefined ? first : Number(match[2]);
      return Array.from({ length: Math.max(0, last - first + 1) }, (_, at) => first + at);
    });
}
