import { concat, text } from '../lib/bytes.ts';
import { u32, u64 } from '../lib/entry-answer.ts';
import { OpenFlag } from '../lib/fuse-abi.ts';
import { guestTest } from '../lib/guest-test.ts';
import { mountWithModes, openAs, register } from '../lib/open-modes.ts';

/** Data that the kernel itself wants of a file, and does not have the server asked as a program would. */

const PAGE = 4096;
/** `struct linux_binprm`: as much of a program as the kernel looks at. */
const HEADER_BYTES = 256;

guestTest(
  'a program of which every read is asked of the server runs, also when reads are short',
  async (t, guest) => {
    for (const maxRead of [undefined, PAGE]) {
      await using fuse = await guest.mountFuse({ passthrough: 'off', maxRead });
      await using client = await guest.client();
      await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
      const script = `#!/bin/sh\n# ${'-'.repeat(300)}\necho it runs\n`;
      await client.writeFile({ path: fuse.backing('script'), data: script, mode: 0o755 });
      t.is((await guest.run([fuse.file('script')])).stdout, 'it runs\n');
      const [first] = await fuse.requests('READ');
      t.like(first?.args, { offset: 0, size: HEADER_BYTES }, 'what the kernel reads of it');
      await fuse.rule({
        match: { opcode: 'READ' },
        times: 1,
        action: { do: 'body', body: new Uint8Array(Buffer.from('#!/bin/echo')) },
      });
      const { stdout } = await guest.run([fuse.file('script'), 'an argument']);
      t.is(stdout, `${fuse.file('script')} an argument\n`, 'a short answer');
      await fuse.fail('READ', 'EIO', 1);
      t.not((await guest.tryRun(['env', fuse.file('script')])).code, 0, 'an error');
    }
  },
);

const SEGMENTS = 100;
/** Elf64_Ehdr and Elf64_Phdr. Bytes. */
const [ELF_HEADER, ELF_SEGMENT] = [64, 56];

/** An x86-64 executable that exits with 7, of whose table of segments only the last, beyond a page, is one. */
function manySegments(): Uint8Array {
  const base = 0x40_0000n;
  const codeAt = ELF_HEADER + SEGMENTS * ELF_SEGMENT;
  // mov edi, 7; mov eax, 60 (exit); syscall
  const code = Uint8Array.from([0xbf, 7, 0, 0, 0, 0xb8, 60, 0, 0, 0, 0x0f, 0x05]);
  const identity = Uint8Array.from([0x7f, 0x45, 0x4c, 0x46, 2, 1, 1, 0, ...Array<number>(8).fill(0)]);
  // An executable of x86-64, version 1.
  const kind = concat(
    u32((62 << 16) | 2),
    u32(1),
    u64(base + BigInt(codeAt)),
    u64(BigInt(ELF_HEADER)),
    u64(0n),
  );
  const sizes = concat(u32(0), u32((ELF_SEGMENT << 16) | ELF_HEADER), u32(SEGMENTS), u32(0));
  const bytes = BigInt(codeAt + code.length);
  // PT_LOAD, readable and executable: the whole file.
  const load = concat(u32(1), u32(5), u64(0n), u64(base), u64(base), u64(bytes), u64(bytes), u64(4096n));
  return concat(identity, kind, sizes, new Uint8Array((SEGMENTS - 1) * ELF_SEGMENT), load, code);
}

guestTest('what the kernel wants of a program comes whole when it takes two reads', async (t, guest) => {
  await using fuse = await guest.mountFuse({ passthrough: 'off', maxRead: PAGE });
  await using client = await guest.client();
  await fuse.answerOpen('OPEN', { openFlags: OpenFlag.DIRECT_IO });
  await client.writeFile({ path: fuse.backing('program'), data: manySegments(), mode: 0o755 });
  t.is((await guest.tryRun([fuse.file('program')])).code, 7, 'it runs');
  const reads = (await fuse.requests('READ')).map(({ args }) => [args['offset'], args['size']]);
  t.deepEqual(
    reads.slice(0, 3),
    [
      [0, HEADER_BYTES],
      [ELF_HEADER, PAGE],
      [ELF_HEADER + PAGE, SEGMENTS * ELF_SEGMENT - PAGE],
    ],
    'its beginning, and the table of its segments in two parts',
  );
});

guestTest(
  'splice from a passthrough file that is DIRECT_IO as well reads what the server has',
  async (t, guest) => {
    await using fuse = await mountWithModes(guest);
    await using client = await guest.client();
    await client.writeFile({ path: fuse.backing('f'), data: 'registered' });
    await client.writeFile({ path: fuse.backing('g'), data: 'the server' });
    const id = await register(fuse, 'f');
    const fd = await openAs(client, fuse, { name: 'g', mode: 'passthrough-direct', id });
    const [out, into] = await client.pipe({});
    t.is(await client.splice({ fdIn: fd, offIn: 4, fdOut: into, length: 6 }), 6);
    t.is(text(await client.read({ fd: out, count: 100 })), 'server');
    t.deepEqual((await fuse.opcodes('READ')).slice(0, 1), ['READ']);
    await client.write({ fd: into, data: 'THE' });
    t.is(await client.splice({ fdIn: out, fdOut: fd, offOut: 0, length: 3 }), 3);
    t.is(text(await client.readFile({ path: fuse.backing('g') })), 'THE server');
    t.is(text(await client.readFile({ path: fuse.backing('f') })), 'registered');
    for (const each of [out, into, fd]) await client.close({ fd: each });
  },
);
