import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

/** What a round of the build changes. */
const FILE = 'fs/fuse/file.c';

/** A kernel source in which one object has to be compiled again, as after an edit of a file of the series. */
export interface OneObjectChange {
  /** Path below the source tree. */
  readonly file: string;
  readonly contents: string;
  /** The same as a diff against the pristine source. */
  readonly patch: string;
}

/** @param mark Letters and digits; another mark makes another object, so that no cache of objects has it. */
export async function oneObjectChange(pristine: string, mark: string): Promise<OneObjectChange> {
  return changeLastLine(await readFile(join(pristine, FILE), 'utf8'), mark);
}

/** Pure: adds one line to the end of `before`, which no kernel keeps. */
export function changeLastLine(before: string, mark: string): OneObjectChange {
  return addLastLine(FILE, before, `static const char fusegate_bench_${mark}[] __maybe_unused = "${mark}";`);
}

/** Pure: adds `added` to the end of `before`. */
export function addLastLine(file: string, before: string, added: string): OneObjectChange {
  const lines = before.replace(/\n$/, '').split('\n');
  const context = lines.slice(-3);
  const first = lines.length - context.length + 1;
  const patch = [
    `--- a/${file}`,
    `+++ b/${file}`,
    `@@ -${first},${context.length} +${first},${context.length + 1} @@`,
    ...context.map((line) => ` ${line}`),
    `+${added}`,
  ];
  return { file, contents: `${lines.join('\n')}\n${added}\n`, patch: `${patch.join('\n')}\n` };
}
