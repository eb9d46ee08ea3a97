// Segment's own SDK for Node with Bespoke as its host: npm install && BESPOKE_KEY=... node send.mjs [URL]
// The key is the write key: it needs the scope ingest.
import { Analytics } from '@segment/analytics-node'

const url = process.argv[2] ?? 'http://127.0.0.1:8000'
const analytics = new Analytics({
  writeKey: process.env.BESPOKE_KEY,
  host: url,
  path: '/collect/v1/batch',
  flushInterval: 100,
})
const failures = []
analytics.on('error', (error) => failures.push(error))

analytics.identify({ userId: 'alice', traits: { plan: 'pro' } })
analytics.track({
  userId: 'alice',
  event: 'Product Viewed',
  properties: { product_id: 'p1', price: 9.5, quantity: 1 },
})
analytics.track({
  userId: 'alice',
  event: 'Order Completed',
  properties: { products: [{ product_id: 'p1', price: 9.5, quantity: 2 }] },
})
analytics.page({ anonymousId: 'device-1', name: 'Home', properties: { url: 'https://example.org' } })
analytics.screen({ anonymousId: 'device-1', name: 'Start' })
analytics.group({ userId: 'alice', groupId: 'g1', traits: { size: 3 } })
analytics.alias({ userId: 'alice', previousId: 'device-1' })

await analytics.closeAndFlush({ timeout: 10_000 })
if (failures.length > 0) {
  console.error(`${failures.length} batches were not stored, the first since: ${failures[0].code}`)
  process.exit(1)
}
console.log('stored')
