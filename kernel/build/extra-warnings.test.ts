import test from 'ava';
import { newWarnings, parseWarnings, warningCommand } from './extra-warnings.ts';

test('warnings: the command of a .cmd file, without its result, its dependencies and what follows it', (t) => {
  const saved =
    'savedcmd_fs/fuse/a.o := ccache gcc -Wp,-MMD,fs/fuse/.a.o.d -O2 -Wno-unused-but-set-variable -DNAME=\'"a"\' -c -o fs/fuse/a.o ../fs/fuse/a.c   ; ./tools/objtool/objtool fs/fuse/a.o\n\nsource_fs/fuse/a.o := ../fs/fuse/a.c\n';
  const command = warningCommand(saved) ?? '';
  t.regex(
    command,
    /^gcc -O2 -Wno-unused-but-set-variable -DNAME='"a"' .*-c -o \/dev\/null \.\.\/fs\/fuse\/a\.c$/,
  );
  t.true(command.indexOf('-Wunused-but-set-variable') > command.indexOf('-Wno-unused-but-set-variable'));
  t.notRegex(command, /objtool|MMD|ccache/);
});

test('warnings: before 6.2 the line has another name; an assembler file has no command for us', (t) => {
  t.regex(warningCommand('cmd_fs/a.o := gcc -O2 -c -o fs/a.o ../fs/a.c\n') ?? '', /^gcc -O2/);
  t.is(warningCommand('savedcmd_a.o := gcc -c -o a.o ../a.S\n'), undefined);
  t.is(warningCommand(''), undefined);
});

const said = (line: number): string =>
  `In file included from ../fs/a.h:1:\n../fs/fuse/a.c:${line}:6: warning: unused variable 'x' [-Wunused-variable]\n${line} | int x;\n`;

test('warnings: only what the parent does not say is new, wherever it stands', (t) => {
  const [parent, child] = [parseWarnings(said(10)), parseWarnings(said(12))];
  t.deepEqual(parent, [{ file: 'fs/fuse/a.c', line: 10, text: "unused variable 'x' [-Wunused-variable]" }]);
  t.deepEqual(newWarnings(parent, child), []);
  t.deepEqual(newWarnings([], child), child);
  t.is(newWarnings(parent, [...child, ...parseWarnings(said(30))]).length, 1);
});

test('warnings: what the compiler quotes cannot order a terminal about', (t) => {
  const [warning] = parseWarnings("../a.c:1:1: warning: \u001b[31mred '::error'\n");
  t.is(warning?.text, "red '::error'");
});
