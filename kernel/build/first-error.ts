/** What broke a build, as far as its log tells. */
export type BuildError =
  | { readonly kind: 'compiler'; readonly file: string; readonly line: number; readonly message: string }
  | { readonly kind: 'linker'; readonly where: string; readonly message: string }
  | { readonly kind: 'modpost'; readonly message: string }
  | { readonly kind: 'tool-missing'; readonly tool: string }
  | { readonly kind: 'disk-full' }
  | { readonly kind: 'out-of-memory'; readonly message: string }
  | { readonly kind: 'killed'; readonly message: string }
  | { readonly kind: 'other'; readonly message: string };

/** Headers of libraries that kernel tools are built with, and the Debian package that has them. */
const toolHeaders: Readonly<Record<string, string>> = {
  'gelf.h': 'libelf-dev',
  'libelf.h': 'libelf-dev',
  'openssl/opensslv.h': 'libssl-dev',
  'openssl/bio.h': 'libssl-dev',
  'openssl/evp.h': 'libssl-dev',
};

type Rule = readonly [pattern: RegExp, read: (match: RegExpExecArray) => BuildError | undefined];

/** Conditions of the machine: they explain any compiler error that stands near them. */
const machineRules: readonly Rule[] = [
  [/No space left on device|Disk quota exceeded/u, () => ({ kind: 'disk-full' })],
  [
    /(?:virtual memory exhausted|Cannot allocate memory|out of memory allocating).*/u,
    ([text]) => ({ kind: 'out-of-memory', message: text }),
  ],
  [
    /fatal error: Killed signal terminated program \S+/u,
    ([text]) => ({ kind: 'out-of-memory', message: text }),
  ],
  [
    /(?:^|: )(?:\d+: )?([\w.+-]+): (?:command )?not found$/mu,
    ([, tool]) => ({ kind: 'tool-missing', tool: tool ?? '' }),
  ],
  [
    /^make(?:\[\d+\])?: ([\w.+/-]+): No such file or directory$/mu,
    ([, tool]) => ({ kind: 'tool-missing', tool: tool ?? '' }),
  ],
  [
    /fatal error: (\S+): No such file or directory/u,
    ([, header]) => {
      const tool = toolHeaders[header ?? ''];
      return tool === undefined ? undefined : { kind: 'tool-missing', tool };
    },
  ],
  [/error: Cannot (?:find|generate) .*libelf/iu, () => ({ kind: 'tool-missing', tool: 'libelf-dev' })],
];

/** Errors in the source, each looked for line by line: the first line that any of them knows decides. */
const sourceRules: readonly Rule[] = [
  [
    /^(?!make\b)([^\s:][^:]*):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$/u,
    ([, file, line, message]) => ({
      kind: 'compiler',
      file: inTree(file),
      line: Number(line),
      message: message ?? '',
    }),
  ],
  [
    // The assembler has no column and writes "Error".
    /^([^\s:][^:]*\.[sS]):(\d+): Error: (.*)$/u,
    ([, file, line, message]) => ({
      kind: 'compiler',
      file: inTree(file),
      line: Number(line),
      message: message ?? '',
    }),
  ],
  [
    /^(?:\S*ld(?:\.\w+)?: )?(\S[^:]*:(?:\([^)]*\)|\d+)): ((?:undefined reference|multiple definition).*)$/u,
    ([, where, message]) => ({ kind: 'linker', where: inTree(where), message: message ?? '' }),
  ],
  [
    /^\S*ld(?:\.\w+)?: (?!warning)(.*(?:undefined reference|multiple definition|cannot find|error).*)$/u,
    ([, message]) => ({ kind: 'linker', where: 'ld', message: message ?? '' }),
  ],
  [/^Inconsistent kallsyms data$/u, ([message]) => ({ kind: 'linker', where: 'vmlinux', message })],
  [/^ERROR: modpost: (.*)$/u, ([, message]) => ({ kind: 'modpost', message: message ?? '' })],
  [
    /^([^\s:][^:]*):(\d+): (\*\*\* .*)$/u,
    ([, file, line, message]) => ({
      kind: 'compiler',
      file: inTree(file),
      line: Number(line),
      message: message ?? '',
    }),
  ],
  [
    /^([^\s:]*Kconfig[^\s:]*):(\d+): (.*)$/u,
    ([, file, line, message]) =>
      message?.includes('warning') === true
        ? undefined
        : { kind: 'compiler', file: inTree(file), line: Number(line), message: message ?? '' },
  ],
];

const lastResorts: readonly Rule[] = [
  [
    /^make(?:\[\d+\])?: \*\*\* \[[^\]]*\] (?:Killed|Terminated|Error 137)$/mu,
    ([message]) => ({ kind: 'killed', message }),
  ],
  [/^(?:.*[\s:])?(?:error|Error|ERROR): .*$/mu, ([message]) => ({ kind: 'other', message })],
  [/^make(?:\[\d+\])?: \*\*\* .*$/mu, ([message]) => ({ kind: 'other', message })],
];

/** The first real error in the log of a kernel build; a parallel build may have several. */
export function firstBuildError(log: string): BuildError {
  return (
    firstMatch(machineRules, withoutSource(log)) ??
    firstLineMatch(log) ??
    firstMatch(lastResorts, log) ?? {
      kind: 'other',
      message: log.trimEnd().split('\n').at(-1) ?? '',
    }
  );
}

/** What is left when a compiler does not quote: a message about memory in the source is no message about memory. */
function withoutSource(log: string): string {
  return log
    .split('\n')
    .filter((line) => !/^\s*\d* \| |^\S[^:]*:\d+:(?:\d+:)? (?:error|warning|note): /u.test(line))
    .join('\n');
}

function firstMatch(rules: readonly Rule[], text: string): BuildError | undefined {
  for (const [pattern, read] of rules) {
    const match = pattern.exec(text);
    const error = match === null ? undefined : read(match);
    if (error !== undefined) return error;
  }
  return undefined;
}

function firstLineMatch(log: string): BuildError | undefined {
  for (const line of log.split('\n')) {
    const error = firstMatch(sourceRules, line);
    if (error !== undefined) return error;
  }
  return undefined;
}

/** Paths as in the source tree: builds below it print them relative to the output directory. */
function inTree(path: string | undefined): string {
  return (path ?? '').replace(/^(?:\.\.?\/)+/u, '');
}
