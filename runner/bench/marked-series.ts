import { mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseQuiltSeries } from '#kernel/series/quilt.ts';
import { addLastLine } from './one-object-change.ts';

/** Files of fs/fuse that no patch of the series touches. */
const [OF_FIRST, OF_LAST] = ['fs/fuse/readdir.c', 'fs/fuse/xattr.c'] as const;

/** Letters and digits in what the kernel keeps: another mark makes another kernel, of which nothing is known. */
export interface Marks {
  /** In the first patch, and so in every kernel of the series. */
  readonly first: string;
  /** In the last patch alone. */
  readonly last?: string | undefined;
}

/** The patch with one more line at the end of `file`, whose contents are `before`. Pure. */
export function markPatch(mail: string, file: string, before: string, mark: string): string {
  const { patch } = addLastLine(file, before, lineOf(mark));
  const at = mail.search(/^diff --git /m);
  if (at < 0) throw new TypeError('a patch without a diff');
  return `${mail.slice(0, at)}diff --git a/${file} b/${file}\n${patch}${mail.slice(at)}`;
}

/** A series of one patch that changes one object and nothing that counts. @returns its path */
export async function writeMarkedBase(to: string, pristine: string, mark: string): Promise<string> {
  const before = await readFile(join(pristine, OF_FIRST), 'utf8');
  await writeFile(to, addLastLine(OF_FIRST, before, lineOf(mark)).patch);
  return to;
}

/** A copy of the series in the directory `from`, marked, as a directory `to`. @returns `to` */
export async function writeMarkedSeries(
  from: string,
  to: string,
  pristine: string,
  marks: Marks,
): Promise<string> {
  await mkdir(to, { recursive: true });
  const names = await readdir(from);
  const order = parseQuiltSeries(await readFile(join(from, 'series'), 'utf8')).map(({ file }) => file);
  for (const name of names) {
    const text = await readFile(join(from, name), 'utf8');
    const marked = await markedText(text, { isFirst: name === order[0], isLast: name === order.at(-1) });
    await writeFile(join(to, name), marked);
  }
  return to;

  async function markedText(
    text: string,
    { isFirst, isLast }: { readonly isFirst: boolean; readonly isLast: boolean },
  ): Promise<string> {
    const [file, mark] = isFirst ? [OF_FIRST, marks.first] : [OF_LAST, isLast ? marks.last : undefined];
    return mark === undefined
      ? text
      : markPatch(text, file, await readFile(join(pristine, file), 'utf8'), mark);
  }
}

/** What the compiler keeps, and the kernel with it. */
function lineOf(mark: string): string {
  return `static const char fusegate_bench_${mark}[] __used = "${mark}";`;
}
