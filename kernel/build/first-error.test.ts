import { readFile } from 'node:fs/promises';
import test from 'ava';
import fc from 'fast-check';
import { type BuildError, firstBuildError } from './first-error.ts';

const logs: Readonly<Record<string, BuildError>> = {
  'implicit-declaration': {
    kind: 'compiler',
    file: 'fs/fuse/passthrough.c',
    line: 25,
    message:
      'implicit declaration of function ‘fuse_write_update_attribute’; did you mean ‘fuse_write_update_attr’? [-Werror=implicit-function-declaration]',
  },
  'warning-before-error': {
    kind: 'compiler',
    file: 'include/linux/fs.h',
    line: 3000,
    message: "expected ';' before 'int'",
  },
  'missing-header': {
    kind: 'compiler',
    file: 'fs/fuse/passthrough.c',
    line: 9,
    message: 'linux/no-such-header.h: No such file or directory',
  },
  'assembler-error': {
    kind: 'compiler',
    file: 'arch/x86/entry/entry_64.S',
    line: 123,
    message: "no such instruction: `movx %rax,%rbx'",
  },
  'kconfig-error': { kind: 'compiler', file: 'fs/fuse/Kconfig', line: 55, message: 'syntax error' },
  'makefile-error': {
    kind: 'compiler',
    file: 'fs/fuse/Makefile',
    line: 12,
    message: '*** missing separator.  Stop.',
  },
  'linker-undefined-reference': {
    kind: 'linker',
    where: 'passthrough.c:(.text+0x22)',
    message: "undefined reference to `fuse_nowhere'",
  },
  modpost: { kind: 'modpost', message: '"fuse_file_passthrough" [fs/fuse/virtiofs.ko] undefined!' },
  'flex-missing': { kind: 'tool-missing', tool: 'flex' },
  'libelf-missing': { kind: 'tool-missing', tool: 'libelf-dev' },
  'disk-full': { kind: 'disk-full' },
  'out-of-memory': {
    kind: 'out-of-memory',
    message: 'fatal error: Killed signal terminated program cc1',
  },
};

for (const [name, expected] of Object.entries(logs)) {
  test(`first error: ${name}.log`, async (t) => {
    const log = await readFile(new URL(`testdata/${name}.log`, import.meta.url), 'utf8');
    t.deepEqual(firstBuildError(log), expected);
  });
}

test('first error: a recipe that was killed, and a log that tells nothing', (t) => {
  t.is(firstBuildError('make[2]: *** [Makefile:1: vmlinux] Error 137\n').kind, 'killed');
  t.deepEqual(firstBuildError("make: *** No rule to make target 'bzImage'.  Stop.\n"), {
    kind: 'other',
    message: "make: *** No rule to make target 'bzImage'.  Stop.",
  });
  t.deepEqual(firstBuildError(''), { kind: 'other', message: '' });
});

const quoted = [
  [
    'fs/fuse/file.c:120:2: error: implicit declaration of function ‘fuse_warn’',
    '  120 |  fuse_warn(fc, "Cannot allocate memory");',
    '      |  ^~~~~~~~~',
  ],
  ['fs/fuse/file.c:7:2: error: #error "No space left on device"'],
  ['fs/fuse/file.c:7:2: error: #error "cc1: not found"'],
];
for (const [first = '', ...rest] of quoted) {
  test(`first error: ${first} is the source's, whatever it says`, (t) => {
    t.is(
      firstBuildError([first, ...rest, 'make: *** [Makefile:1: all] Error 1'].join('\n')).kind,
      'compiler',
    );
  });
}

test('first error: any log gives an answer', (t) => {
  fc.assert(fc.property(fc.string(), (log) => firstBuildError(log).kind !== ('' as string)));
  t.pass();
});
