import test from 'ava';
import fc from 'fast-check';
import { encodeFrame, FrameDecoder, FrameError } from './frame.ts';
import { MAX_FRAME_BYTES } from './rpc.ts';

test('messages come out as they went in, however the stream was cut', (t) => {
  const cuts = fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 });
  fc.assert(
    fc.property(fc.array(fc.jsonValue(), { maxLength: 8 }), cuts, (messages, sizes) => {
      const stream = Buffer.concat(messages.map(encodeFrame));
      const decoder = new FrameDecoder();
      const received: unknown[] = [];
      for (let at = 0, turn = 0; at < stream.length; turn++) {
        const size = sizes[turn % sizes.length] ?? 1;
        received.push(...decoder.push(stream.subarray(at, at + size)));
        at += size;
      }
      t.deepEqual(received, JSON.parse(JSON.stringify(messages)) as unknown[]);
    }),
    { numRuns: 200 },
  );
});

test('bytes travel as bytes, wherever they are in a message', (t) => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (data) => {
      const message = { data, list: [{ deeper: Buffer.from(data) }], other: 'text' };
      const [received] = new FrameDecoder().push(encodeFrame(message));
      const plain = new Uint8Array(data);
      t.deepEqual(received, { data: plain, list: [{ deeper: plain }], other: 'text' });
    }),
    { numRuns: 50 },
  );
});

test('a frame that announces too much is refused before it is buffered', (t) => {
  const head = Buffer.alloc(4);
  head.writeUInt32BE(MAX_FRAME_BYTES + 1);
  t.throws(() => new FrameDecoder().push(head), { instanceOf: FrameError });
});

test('a frame without JSON is refused', (t) => {
  const frame = Buffer.from([0, 0, 0, 2, 0x7b, 0x7b]);
  t.throws(() => new FrameDecoder().push(frame), { instanceOf: FrameError });
});

test('a stray object that only looks like bytes stays what it is', (t) => {
  const [received] = new FrameDecoder().push(encodeFrame({ $bytes: 5 }));
  t.deepEqual(received, { $bytes: 5 });
});
