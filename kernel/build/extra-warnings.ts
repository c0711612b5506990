import { readFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { printable } from '../series/printable.ts';
import { execGuarded } from '../guarded.ts';

/** One complaint of the compiler. */
export interface CompilerWarning {
  readonly file: string;
  readonly line: number;
  readonly text: string;
}

/**
 * What kbuild's W=1 turns on (scripts/Makefile.extrawarn). Given to the compiler's own command line and not to
 * make, which would compile the objects of the next build again with them.
 */
const w1 = [
  '-Wunused-but-set-variable',
  '-Wunused-const-variable',
  '-Wpacked-not-aligned',
  '-Wformat-overflow',
  '-Wformat-truncation',
  '-Wstringop-truncation',
  '-Wmissing-format-attribute',
  '-Wmissing-include-dirs',
  '-Wmissing-declarations',
  '-Wmissing-prototypes',
  '-DKBUILD_EXTRA_WARN1',
  '-Wno-error',
];

/**
 * The shell command with which kbuild compiled an object, from its `.cmd` file: with W=1, writing nothing. The
 * last flags win. `undefined` when it is not the compiler's. Pure.
 */
export function warningCommand(cmdFile: string): string | undefined {
  const saved = /^(?:saved)?cmd_\S+ := (.*)$/mu.exec(cmdFile)?.[1];
  const compile = saved?.split(' ; ')[0];
  if (compile === undefined || !/ -c -o \S+ \S+\.c\s*$/u.test(compile)) return undefined;
  const plain = compile
    .replace(/^ccache /u, '')
    .replace(/ -Wp,-MMD,\S+/u, '')
    .replace(/ -c -o \S+ (\S+\.c)\s*$/u, ` ${w1.join(' ')} -c -o /dev/null $1`);
  // make's file has make's dollars.
  return plain.replaceAll('$$', '$');
}

/** Warnings and errors in what the compiler said; each file and text once per line. Pure. */
export function parseWarnings(said: string): readonly CompilerWarning[] {
  const found = new Map<string, CompilerWarning>();
  for (const [, file = '', line = '', text = ''] of said.matchAll(
    /^(?:\.\.\/)*([^\s:][^:\n]*):(\d+):(?:\d+:)? warning: (.*)$/gmu,
  )) {
    const warning = { file, line: Number(line), text: printable(text) };
    found.set(`${file}:${line}:${text}`, warning);
  }
  return [...found.values()];
}

/** Those of `child` that `parent` has not as often; lines move, so they do not count. Pure. */
export function newWarnings(
  parent: readonly CompilerWarning[],
  child: readonly CompilerWarning[],
): readonly CompilerWarning[] {
  const left = new Map<string, number>();
  const keyOf = ({ file, text }: CompilerWarning): string => `${file} ${text}`;
  for (const warning of parent) left.set(keyOf(warning), (left.get(keyOf(warning)) ?? 0) + 1);
  return child.filter((warning) => {
    const count = left.get(keyOf(warning)) ?? 0;
    left.set(keyOf(warning), count - 1);
    return count <= 0;
  });
}

/** Compiles the files that are part of the build once more, with W=1 and without a result. */
export async function compileForWarnings(
  files: readonly string[],
  place: { readonly objects: string },
  signal: AbortSignal,
): Promise<readonly CompilerWarning[]> {
  const sources = files.filter((name) => name.endsWith('.c'));
  const width = availableParallelism();
  const warnings: CompilerWarning[] = [];
  for (let at = 0; at < sources.length; at += width) {
    const some = sources.slice(at, at + width);
    const found = await Promise.all(some.map((file) => warningsOf(file, place, signal)));
    warnings.push(...found.flat());
  }
  return warnings;
}

async function warningsOf(
  file: string,
  { objects }: { readonly objects: string },
  signal: AbortSignal,
): Promise<readonly CompilerWarning[]> {
  const object = `.${basename(file, '.c')}.o.cmd`;
  const cmdFile = await readFile(join(objects, dirname(file), object), 'utf8').catch(() => '');
  const command = warningCommand(cmdFile);
  // Not in this configuration, or deleted by the series.
  if (command === undefined) return [];
  const { stderr } = await execGuarded('bash', ['-c', command], {
    cwd: objects,
    env: { LC_ALL: 'C' },
    signal,
  });
  return parseWarnings(stderr);
}
