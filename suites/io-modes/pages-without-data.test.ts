import { firstDifference, pattern } from '../lib/bytes.ts';
import { guestTest } from '../lib/guest-test.ts';
import { OUT_HEADER_BYTES, outHeader } from '../lib/raw-server.ts';

/**
 * A pipe may hold pages of a page cache (splice(2)), and what has become of such a page meanwhile is looked at when
 * it is taken out: one that has no data any more is nothing to answer with.
 */

const PAGE = 4096;

for (const flags of ['', 'SPLICE_F_MOVE']) {
  const how = flags === '' ? 'spliced' : 'given away';
  guestTest(
    `a page that lost its data while it waited in a pipe is not ${how} as an answer to READ`,
    async (t, guest) => {
      await using fuse = await guest.mountFuse({ passthrough: 'off' });
      await using client = await guest.client();
      await using helper = await guest.client();
      const device = await fuse.server.lendDevice(helper);
      const data = pattern(PAGE, 7);
      for (const name of ['source', 'f']) await client.writeFile({ path: fuse.backing(name), data });
      const source = await helper.open({ path: fuse.file('source'), flags: 'O_RDWR' });
      const fd = await client.open({ path: fuse.file('f'), flags: 'O_RDONLY' });
      await helper.pread({ fd: source, count: PAGE, offset: 0 });

      const ask = async (): Promise<{ reading: Promise<Uint8Array>; pipe: [number, number] }> => {
        const hold = await fuse.hold({ opcode: 'READ', path: '/f' });
        const reading = client.pread({ fd, count: PAGE, offset: 0 });
        reading.catch(() => undefined);
        const { unique } = await hold.arrived();
        await hold.stop();
        const pipe = await helper.pipe({});
        await helper.write({ fd: pipe[1], data: outHeader({ unique: BigInt(unique), bodyBytes: PAGE }) });
        const taken = await helper.splice({ fdIn: source, offIn: 0, fdOut: pipe[1], length: PAGE });
        t.is(taken, PAGE);
        return { reading, pipe };
      };
      const answer = { fdOut: device, length: OUT_HEADER_BYTES + PAGE, flags };
      const { reading, pipe } = await ask();
      // What was in the page is overwritten, and what overwrote it is nowhere.
      await fuse.fail({ opcode: 'WRITE', path: '/source' }, 'ENOSPC', 1);
      t.is(await helper.errno.pwrite({ fd: source, data: pattern(PAGE, 9), offset: 0 }), 'ENOSPC');
      const after = await fuse.position();
      t.is(await helper.errno.splice({ fdIn: pipe[0], ...answer }), 'EIO', 'the answer');
      t.is(firstDifference(await reading, data), undefined, 'what is read is what the server has');
      t.deepEqual(
        await fuse.opcodes({ opcode: 'READ', path: '/f', after }),
        ['READ'],
        'it is asked for once more',
      );
      for (const each of pipe) await helper.close({ fd: each });

      // The same page when it has data again.
      await helper.pread({ fd: source, count: PAGE, offset: 0 });
      await client.posix_fadvise({ fd, offset: 0, length: 0, advice: 'POSIX_FADV_DONTNEED' });
      const next = await ask();
      t.is(
        await helper.splice({ fdIn: next.pipe[0], ...answer }),
        answer.length,
        'with data it is an answer',
      );
      t.is(firstDifference(await next.reading, data), undefined);
      for (const each of next.pipe) await helper.close({ fd: each });
      await helper.close({ fd: source });
      await helper.close({ fd: device });
      await client.close({ fd });
    },
  );
}
