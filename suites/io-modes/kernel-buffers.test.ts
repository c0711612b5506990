import { text } from '../lib/bytes.ts';
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
