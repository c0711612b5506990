import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/**
 * A source tree that answers to kbuild's calling conventions and builds in no time: `bzImage` compiles
 * fs/fuse/file.c with the real compiler. Writes a line to $FAKE_BUILDS per build; waits while
 * $FAKE_HANG is a pipe that nobody has written to.
 */
const makefile = `VERSION = 6
PATCHLEVEL = 12
SUBLEVEL = 1
EXTRAVERSION =

tinyconfig:
	@mkdir -p $(O)
	@echo '# CONFIG_TINY is not set' > $(O)/.config

olddefconfig:
	@sed -i '/CONFIG_UNKNOWN/d' $(O)/.config

bzImage:
	@if [ -n "$$FAKE_BUILDS" ]; then echo built >> "$$FAKE_BUILDS"; fi
	@if [ -e "$$FAKE_HANG" ]; then echo "  CC      fs/fuse/slow.o"; cat "$$FAKE_HANG"; fi
	@mkdir -p $(O)/arch/x86/boot $(O)/include/config
	@echo "  CC      fs/fuse/file.o"
	@gcc -c -I include fs/fuse/file.c -o $(O)/vmlinux
	@echo "  LD      vmlinux"
	@cp $(O)/vmlinux $(O)/arch/x86/boot/bzImage
	@echo 6.12.1 > $(O)/include/config/kernel.release
`;

export const fakeFile = Array.from({ length: 40 }, (_, index) => `int line_${index + 1};\n`).join('');

export async function makeFakeKernel(dir: string): Promise<string> {
  const files = {
    Makefile: makefile,
    'fs/fuse/file.c': fakeFile,
    'fs/fuse/dir.c': 'int dir;\n',
    'include/fuse.h': '#define FUSE 1\n',
  };
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), text);
  }
  return dir;
}

/** A `git format-patch` mail that changes one line of fs/fuse/file.c. */
export function fakePatch(line: number, to: string, subject = `fuse: change line ${line}`): string {
  const context = (at: number): string => ` int line_${at};\n`;
  return [
    'From 0123456789012345678901234567890123456789 Mon Sep 17 00:00:00 2001\n',
    `From: A <a@example.org>\nDate: Tue, 26 Jan 2021 10:00:00 +0000\nSubject: ${subject}\n\nBecause.\n---\n`,
    ' fs/fuse/file.c | 2 +-\n\n',
    'diff --git a/fs/fuse/file.c b/fs/fuse/file.c\n--- a/fs/fuse/file.c\n+++ b/fs/fuse/file.c\n',
    `@@ -${line - 1},3 +${line - 1},3 @@\n`,
    `${context(line - 1)}-int line_${line};\n+${to}\n${context(line + 1)}`,
    '-- \n2.39.5\n\n',
  ].join('');
}
